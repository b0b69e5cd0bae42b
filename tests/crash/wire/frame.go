package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// maxFrame is larger than any message of a test.
const maxFrame = 64 << 20

// Codes of the untyped messages that open a connection.
const (
	codeCancel  = 80877102
	codeSSL     = 80877103
	codeGSS     = 80877104
	codeVersion = 3 << 16
)

// frame is one message, whole.
type frame struct {
	kind byte // 0 for the untyped ones
	raw  []byte
}

// body is what follows kind and length.
func (f frame) body() []byte {
	if f.kind == 0 {
		return f.raw[4:]
	}
	return f.raw[5:]
}

// readFrame reads a typed message.
func readFrame(r io.Reader) (frame, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return frame{}, err
	}
	raw, err := readRest(r, head, head[1:])
	return frame{kind: head[0], raw: raw}, err
}

// readUntyped reads a message that opens a connection, and its code.
func readUntyped(r io.Reader) (frame, int, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return frame{}, 0, err
	}
	raw, err := readRest(r, head, head)
	if err == nil && len(raw) < 8 {
		err = fmt.Errorf("a message of %d bytes opens a connection", len(raw))
	}
	if err != nil {
		return frame{}, 0, err
	}
	return frame{raw: raw}, int(binary.BigEndian.Uint32(raw[4:8])), nil
}

// readRest reads what length announces; the length counts itself.
func readRest(r io.Reader, head, length []byte) ([]byte, error) {
	n := int64(binary.BigEndian.Uint32(length))
	if n < 4 || n > maxFrame {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	raw := append(make([]byte, 0, len(head)+int(n)-4), head...)
	raw = raw[:cap(raw)]
	_, err := io.ReadFull(r, raw[len(head):])
	return raw, err
}

// labels names round trips by their statements. It remembers the texts of the prepared ones.
type labels struct {
	prepared map[string]string
}

// describe names what frames ask for.
func (l *labels) describe(frames []frame) string {
	var texts []string
	for _, f := range frames {
		first, rest := cString(f.body())
		switch f.kind {
		case 'Q':
			texts = append(texts, first)
		case 'P':
			text, _ := cString(rest)
			l.prepared[first] = text
			if !hasKind(frames, 'B') {
				texts = append(texts, "prepare "+text)
			}
		case 'B':
			statement, _ := cString(rest)
			texts = append(texts, l.prepared[statement])
		}
	}
	text := strings.Join(strings.Fields(strings.Join(texts, "; ")), " ")
	if text == "" {
		text = "sync"
	}
	return strings.ToValidUTF8(text[:min(len(text), 120)], "")
}

func hasKind(frames []frame, kind byte) bool {
	for _, f := range frames {
		if f.kind == kind {
			return true
		}
	}
	return false
}

func cString(b []byte) (string, []byte) {
	text, rest, _ := bytes.Cut(b, []byte{0})
	return string(text), rest
}
