package platform

import (
	"context"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/logs"
)

// What of a function's lines is kept, the newest.
const (
	keptLines = 1000
	keptBytes = 256 << 10
)

// A logBook keeps the last lines that a function's processes wrote.
type logBook struct {
	mu    sync.Mutex
	lines []logLine
	size  int           // bytes of lines
	first uint64        // number of lines[0]
	news  chan struct{} // closed at the next line
}

type logLine struct {
	at   time.Time
	text string
}

func newLogBook() *logBook { return &logBook{news: make(chan struct{})} }

func (b *logBook) add(at time.Time, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, logLine{at, text})
	b.size += len(text)
	for len(b.lines) > keptLines || b.size > keptBytes {
		b.size -= len(b.lines[0].text)
		b.lines = b.lines[1:]
		b.first++
	}
	close(b.news)
	b.news = make(chan struct{})
}

// from returns the lines from a number on, the number after them, and what is closed when
// there are more.
func (b *logBook) from(n uint64) ([]logLine, uint64, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	skip := uint64(0)
	if n > b.first {
		skip = min(n-b.first, uint64(len(b.lines)))
	}
	return append([]logLine{}, b.lines[skip:]...), b.first + uint64(len(b.lines)), b.news
}

// Query implements [logs.Requester]. The channel is closed when there is nothing more to
// tell, with follow when ctx ends.
func (f *Functions) Query(ctx context.Context, r logs.Request) (<-chan logs.Message, error) {
	m, err := f.find(r.Name)
	if err != nil {
		return nil, err
	}
	out := make(chan logs.Message)
	if !f.begin() {
		return nil, errStops
	}
	go func() {
		defer f.group.Done()
		defer close(out)
		lines, next, news := m.logs.from(0)
		if r.Tail > 0 && len(lines) > r.Tail {
			lines = lines[len(lines)-r.Tail:]
		}
		for {
			for _, l := range lines {
				if r.Since != nil && l.at.Before(*r.Since) {
					continue
				}
				select {
				case out <- logs.Message{Name: m.name, Namespace: Namespace, Timestamp: l.at, Text: l.text}:
				case <-ctx.Done():
					return
				case <-f.ctx.Done():
					return
				}
			}
			if !r.Follow {
				return
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			case <-f.ctx.Done():
				return
			}
			lines, next, news = m.logs.from(next)
		}
	}()
	return out, nil
}
