package node

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const bootFile = "boot"

// nextBoot returns the start of this agent: now, or just after the start of the
// newest agent of the folder when the clock went back since; also with an error,
// which is that this start is not remembered. Reports of an older
// start are not listened to, so a step of the clock would silence the node.
func nextBoot(folder string, now time.Time) (time.Time, error) {
	path := filepath.Join(folder, bootFile)
	// Missing, or damaged: the clock is all there is then.
	if raw, err := readFile(path, 64); err == nil {
		if last, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil && now.UnixNano() <= last {
			now = time.Unix(0, last+1)
		}
	}
	return now, writeFile(path, []byte(strconv.FormatInt(now.UnixNano(), 10)+"\n"))
}
