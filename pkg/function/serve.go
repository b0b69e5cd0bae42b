package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// A Server serves a function over HTTP until it is told to stop.
type Server struct {
	Handler  http.Handler
	Timeouts Timeouts
	// Lame is how long it goes on serving, and says that it is not well, after it was told to
	// stop: a host that balances over several takes that long to send its calls elsewhere.
	Lame time.Duration
}

// Serve serves until ctx ends. Then nothing new is taken, after [Server.Lame]; who waits
// for something is answered, see [Stopping]; calls under way go on to their end, at
// most for their deadline. It returns when all have ended.
func (s Server) Serve(ctx context.Context, l net.Listener) error {
	stopping := make(chan struct{})
	calls, cancel := context.WithCancel(withStop(context.WithoutCancel(ctx), stopping))
	defer cancel()
	h := &http.Server{
		Handler: s.lame(stopping), ReadHeaderTimeout: min(10*time.Second, s.Timeouts.Read), ReadTimeout: s.Timeouts.Read, WriteTimeout: s.Timeouts.Write,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, BaseContext: func(net.Listener) context.Context { return calls },
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	close(stopping)
	if s.Lame > 0 {
		time.Sleep(s.Lame) // bounded, and calls are served meanwhile
	}
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), s.Timeouts.Exec)
	defer stop()
	err := h.Shutdown(end)
	cancel()
	if err != nil {
		slog.WarnContext(ctx, "calls were still under way at the end of their time", "err", err)
		err = h.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// lame answers the host's questions about our health with no once we are to stop.
func (s Server) lame(stopping <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-stopping:
			w.Header().Set("Connection", "close")
			if r.URL.Path == healthPath || r.URL.Path == readyPath {
				http.Error(w, "stopping", http.StatusServiceUnavailable)
				return
			}
		default:
		}
		s.Handler.ServeHTTP(w, r)
	})
}
