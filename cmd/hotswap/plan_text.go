package main

import (
	"fmt"

	"hotswap.dev/hotswap/pkg/intent"
)

// failureText says what follows a failure, in words.
func failureText(s stagePlan) string {
	text := s.OnFailure
	if s.Hold {
		text += ", and what does harm is held"
	}
	if s.Retries > 0 {
		text += fmt.Sprintf(", %d more attempts if it did none", s.Retries)
	}
	return text
}

// newerText says what happens when releases meet in the stage, in words.
func newerText(concurrency, onNewer string) string {
	text := "of those that wait the newest goes, the older end"
	if concurrency == intent.Queue {
		text = "every release has its turn, the oldest first"
	}
	if onNewer == "abort" {
		return text + "; what runs gives way at the end of its wave"
	}
	return text + "; what runs goes on to its end"
}
