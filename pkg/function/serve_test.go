package function_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
)

// A served function listens on this machine until the test, or stop, ends it.
type served struct {
	t     *testing.T
	url   string
	stop  context.CancelFunc
	ended chan error
}

func serve(t *testing.T, s function.Server) *served {
	t.Helper()
	if s.Timeouts == (function.Timeouts{}) {
		s.Timeouts = function.DefaultTimeouts()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	v := &served{t: t, url: "http://" + l.Addr().String(), stop: cancel, ended: make(chan error, 1)}
	go func() { v.ended <- s.Serve(ctx, l) }()
	t.Cleanup(cancel)
	return v
}

func (s *served) get(path string) (int, string, error) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := client.Get(s.url + path)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	return a.StatusCode, string(b), err
}

func (s *served) end() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(20 * time.Second):
		require.Fail(s.t, "it does not end")
		return nil
	}
}

// An answer of a call that was made aside.
type said struct {
	status int
	body   string
	err    error
}

func (s *served) aside(path string) chan said {
	c := make(chan said, 1)
	go func() { status, body, err := s.get(path); c <- said{status, body, err} }()
	return c
}

func TestTheEndWaitsForCallsUnderWayAndTellsWhoWaits(t *testing.T) {
	release, inside := make(chan struct{}), make(chan string, 2)
	s := serve(t, function.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside <- r.URL.Path
		if r.URL.Path == "/waits" {
			<-function.Stopping(r.Context())
		} else {
			<-release
		}
		fmt.Fprint(w, r.Context().Err())
	})})
	works, waits := s.aside("/works"), s.aside("/waits")
	<-inside
	<-inside
	s.stop()
	require.Equal(t, said{200, "<nil>", nil}, <-waits, "who waits for something to come answers")
	require.Eventually(t, func() bool { _, _, err := s.get("/late"); return err != nil }, 10*time.Second, time.Millisecond, "nothing new is taken")
	select {
	case err := <-s.ended:
		require.Fail(t, "it ended before its call", err)
	default:
	}
	close(release)
	require.Equal(t, said{200, "<nil>", nil}, <-works, "who works goes on to its end, uncut")
	require.NoError(t, s.end())
}

func TestAFunctionThatIsToEndSaysThatItIsNotWellAndStillTakesCallsForAWhile(t *testing.T) {
	h := function.Host("f", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") }), ready, function.Limits{})
	s := serve(t, function.Server{Handler: h, Lame: time.Second})
	status, _, err := s.get("/_/health")
	require.NoError(t, err)
	require.Equal(t, 200, status)
	s.stop()
	require.Eventually(t, func() bool { status, _, err := s.get("/_/health"); return err == nil && status == 503 }, 900*time.Millisecond, time.Millisecond)
	status, _, err = s.get("/_/ready")
	require.NoError(t, err)
	require.Equal(t, 503, status)
	status, body, err := s.get("/")
	require.NoError(t, err, "a host may take a while until it sends calls elsewhere")
	require.Equal(t, "200 done", fmt.Sprint(status, " ", body))
	require.NoError(t, s.end())
	_, _, err = s.get("/")
	require.Error(t, err)
}

func TestACallThatDoesNotEndIsCutAtItsDeadline(t *testing.T) {
	inside, cut := make(chan struct{}), make(chan error, 1)
	s := serve(t, function.Server{
		Timeouts: function.Timeouts{Exec: 100 * time.Millisecond, Read: 200 * time.Millisecond, Write: time.Minute},
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(inside)
			<-r.Context().Done()
			cut <- r.Context().Err()
		}),
	})
	s.aside("/")
	<-inside
	s.stop()
	require.NoError(t, s.end())
	require.ErrorIs(t, <-cut, context.Canceled)
}

func TestWhoSendsSlowlyOrMuchIsCutOff(t *testing.T) {
	s := serve(t, function.Server{
		Timeouts: function.Timeouts{Exec: 100 * time.Millisecond, Read: 200 * time.Millisecond, Write: 400 * time.Millisecond},
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		}),
	})
	send := func(text string) string {
		c, err := net.Dial("tcp", s.url[len("http://"):])
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, _ = io.WriteString(c, text) // it may be cut off while we write
		line, _ := bufio.NewReader(c).ReadString('\n')
		return line
	}
	start := time.Now()
	send("POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 10\r\n\r\nslow")
	send("POST / HTTP/1.1\r\nHost: f\r\nX-Slow: ")
	require.Less(t, time.Since(start), 5*time.Second)
	big := make([]byte, 80<<10)
	for i := range big {
		big[i] = 'x'
	}
	require.Contains(t, send("GET / HTTP/1.1\r\nHost: f\r\nX-Big: "+string(big)+"\r\n\r\n"), "431")
}

func TestASocketThatCannotBeServedIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorIs(t, function.Server{Handler: http.NotFoundHandler(), Timeouts: function.DefaultTimeouts()}.Serve(t.Context(), l), net.ErrClosed)
}

func TestAHostThatNeverSaysStopBlocksNobodyWhoAsks(t *testing.T) {
	require.Nil(t, function.Stopping(t.Context()))
}
