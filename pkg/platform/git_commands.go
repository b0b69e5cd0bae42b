package platform

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"hotswap.dev/hotswap/pkg/forge/builtin"
)

// errPush: a push that is not of the form that is taken.
var errPush = errors.New("malformed push")

// Limits of what a push asks for.
const (
	maxMoves    = 1000
	maxCommands = 1 << 20 // bytes
)

// zeroID stands for "none": before a reference, or after it.
var zeroID = strings.Repeat("0", 40)

var pushCommand = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9a-f]{40}) ([0-9a-f]{40}) ([!-~]{1,250})$`) })

// pushedCommands are the references that a push asks to move, and the words by which
// the client says what it understands. The body is read and set back to its beginning.
func pushedCommands(body *os.File, encoding string) (asked []builtin.Moved, capabilities []string, err error) {
	var in io.Reader = body
	if encoding == "gzip" || encoding == "x-gzip" {
		if in, err = gzip.NewReader(body); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errPush, err)
		}
	}
	if asked, capabilities, err = parseCommands(bufio.NewReader(io.LimitReader(in, maxCommands))); err != nil {
		return nil, nil, err
	}
	_, err = body.Seek(0, io.SeekStart)
	return asked, capabilities, err
}

// parseCommands reads the packets before a pack, as git's receive-pack does, and takes
// nothing that it would read otherwise: no signed pushes, no other hashes.
func parseCommands(in *bufio.Reader) (asked []builtin.Moved, capabilities []string, err error) {
	for len(asked) <= maxMoves {
		line, flush, err := readPacket(in)
		if err != nil {
			return nil, nil, err
		}
		if flush {
			return asked, capabilities, nil
		}
		if strings.HasPrefix(line, "shallow ") {
			continue
		}
		line, words, first := strings.Cut(line, "\x00")
		if first {
			capabilities = strings.Fields(words)
		} else {
			line = strings.TrimSuffix(line, "\n")
		}
		m := pushCommand().FindStringSubmatch(line)
		if m == nil {
			return nil, nil, fmt.Errorf("%w: what is not a command of a plain push", errPush)
		}
		asked = append(asked, builtin.Moved{Ref: m[3], Before: orNone(m[1]), After: orNone(m[2])})
	}
	return nil, nil, fmt.Errorf("%w: more than %d references", errPush, maxMoves)
}

// orNone is a commit, or "" for none.
func orNone(id string) string {
	if id == zeroID {
		return ""
	}
	return id
}

// readPacket reads one packet line; flush ends a list.
func readPacket(in *bufio.Reader) (line string, flush bool, err error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return "", false, fmt.Errorf("%w: it breaks off", errPush)
	}
	var size [2]byte
	if _, err := hex.Decode(size[:], head[:]); err != nil {
		return "", false, fmt.Errorf("%w: a length that is none", errPush)
	}
	n := int(size[0])<<8 | int(size[1])
	switch {
	case n == 0:
		return "", true, nil
	case n <= 4:
		return "", false, fmt.Errorf("%w: a length of %d", errPush, n)
	}
	text := make([]byte, n-4)
	if _, err := io.ReadFull(in, text); err != nil {
		return "", false, fmt.Errorf("%w: it breaks off", errPush)
	}
	return string(text), false, nil
}

// packet is a packet line.
func packet(text string) string { return fmt.Sprintf("%04x%s", len(text)+4, text) }

// refusePush answers a push in the words of the protocol, so that git shows its user
// which branch is refused and why. Nothing was moved.
func refusePush(w http.ResponseWriter, asked []builtin.Moved, capabilities []string, refused map[string]string) {
	if !slices.Contains(capabilities, "report-status") && !slices.Contains(capabilities, "report-status-v2") {
		http.Error(w, "a branch of this push is protected", http.StatusForbidden)
		return
	}
	report := packet("unpack ok\n")
	for _, m := range asked {
		why, ok := refused[m.Ref]
		if !ok {
			why = "not done: another branch of this push is refused"
		}
		report += packet("ng " + m.Ref + " " + why + "\n")
	}
	report += "0000"
	var out bytes.Buffer
	if !slices.Contains(capabilities, "side-band-64k") {
		out.WriteString(report)
	} else {
		for len(report) > 0 {
			n := min(len(report), 60_000)
			out.WriteString(packet("\x01" + report[:n]))
			report = report[n:]
		}
		out.WriteString("0000")
	}
	w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	_, _ = w.Write(out.Bytes()) // the client is gone: nobody is left to tell
}
