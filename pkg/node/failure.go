package node

import (
	"errors"
	"fmt"
	"strings"

	"hotswap.dev/hotswap/pkg/target"
)

// A failure is why an instance cannot be had: a stable reason and one sentence
// for a person. It never holds a URL's query or credentials.
type failure struct {
	Reason target.Reason
	Detail string
}

func (f *failure) Error() string { return string(f.Reason) + ": " + f.Detail }

func failed(reason target.Reason, format string, args ...any) *failure {
	return &failure{Reason: reason, Detail: oneSentence(fmt.Sprintf(format, args...))}
}

// asFailure returns err's failure, or one with the given reason.
func asFailure(err error, otherwise target.Reason) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return failed(otherwise, "%v", err)
}

const maxDetail = 1000 // bytes; a report is not a log

// oneSentence makes s fit for one line of a page.
func oneSentence(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return r < 0x20 || r == 0x7f }), " ")
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return s
}
