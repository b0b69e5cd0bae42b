package node

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	lastLines   = 5    // shown when an instance fails
	longestLine = 2048 // bytes; longer ones are cut in pieces
)

// A placeLog is the output of all instances of a place, one file and one former
// file, each bounded. It may be written by several processes at once.
type placeLog struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// write appends one line. Errors are dropped: a module must not stop because its
// log cannot be written, and the agent's own log would not fare better.
func (l *placeLog) write(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil && l.size+int64(len(line)) > l.limit/2 {
		l.file.Close()
		l.file = nil
		_ = os.Rename(l.path, l.path+".1")
	}
	if l.file == nil {
		f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return
		}
		l.file, l.size = f, 0
		if info, err := f.Stat(); err == nil {
			l.size = info.Size()
		}
	}
	n, _ := l.file.Write(line)
	l.size += int64(n)
}

func (l *placeLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// An instanceLog splits the output of one instance into lines, adds time and
// version, and remembers the last ones.
type instanceLog struct {
	to      *placeLog
	version string

	mu   sync.Mutex
	part []byte
	last []string
}

func (l *instanceLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, b...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		switch {
		case i >= 0:
			l.line(l.part[:i])
			l.part = l.part[i+1:]
		case len(l.part) > longestLine:
			l.line(l.part[:longestLine])
			l.part = l.part[longestLine:]
		default:
			l.part = bytes.Clone(l.part) // lets go of what was written
			return len(b), nil
		}
	}
}

func (l *instanceLog) line(text []byte) {
	l.to.write([]byte(time.Now().UTC().Format(time.RFC3339Nano) + " " + l.version + " " + string(text) + "\n"))
	if len(l.last) == lastLines {
		l.last = l.last[1:]
	}
	l.last = append(l.last, string(text))
}

// tail returns the last lines, or a remark that there are none.
func (l *instanceLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.last
	if len(l.part) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(l.part))
	}
	if len(lines) == 0 {
		return "it wrote nothing"
	}
	return "last output: " + strings.Join(lines, " | ")
}
