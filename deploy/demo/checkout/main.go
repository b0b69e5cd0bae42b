// Command checkout is the sample module of the demo and of the tests: a shop's
// till that adds up a basket. It listens on 127.0.0.1:$PORT and answers
//
//	GET /         its version and a total, as JSON
//	GET /healthz  200 once it is ready
//
// It can also misbehave, to show what HotSwap does then. These are features of
// the demonstration and say so in its log:
//
//	-never-healthy     /healthz always answers 503
//	-ready-after D     /healthz answers 503 for the duration D after the start
//	-exit-after D      exits with code 3 after the duration D
//	-latency D         answers / no sooner than after the duration D
//
// Its version is set when it is built: -ldflags "-X main.version=1.5.0". Built with
// -X main.bug=rounding it has a bug that only one configuration shows: with
// PRICE_ROUNDING=bankers in its environment, every twentieth request to / fails.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// Set by the linker.
var version, bug = "dev", ""

type options struct {
	neverHealthy                   bool
	readyAfter, exitAfter, latency time.Duration
}

func main() {
	var o options
	flag.BoolVar(&o.neverHealthy, "never-healthy", false, "/healthz always answers 503")
	flag.DurationVar(&o.readyAfter, "ready-after", 0, "/healthz answers 503 for so long after the start")
	flag.DurationVar(&o.exitAfter, "exit-after", 0, "exit with code 3 after so long")
	flag.DurationVar(&o.latency, "latency", 0, "answer / no sooner than this")
	flag.Parse()
	log.SetFlags(0)
	if err := run(o); err != nil {
		log.Fatalf("checkout %s: %v", version, err)
	}
}

// run serves until SIGTERM, and then lets requests finish.
func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv("PORT")))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(o, time.Now()), ReadHeaderTimeout: 10 * time.Second}
	log.Printf("checkout %s listens on %s %s", version, l.Addr(), o)
	if o.exitAfter > 0 {
		time.AfterFunc(o.exitAfter, func() {
			log.Printf("checkout %s exits after %s, as it was told to", version, o.exitAfter)
			os.Exit(3)
		})
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	finish, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(o options, started time.Time) http.Handler {
	mux := http.NewServeMux()
	var asked atomic.Int64
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(o.latency)
		if rounds(bug, os.Getenv("PRICE_ROUNDING")) && asked.Add(1)%20 == 0 {
			w.Header().Set("HotSwap-Version", version)
			http.Error(w, "the total does not add up", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("HotSwap-Version", version)
		_ = json.NewEncoder(w).Encode(map[string]any{"module": "checkout", "version": version, "total": total(100)})
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if o.neverHealthy || time.Since(started) < o.readyAfter {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// rounds reports whether the bug of this build shows under this configuration.
func rounds(bug, rounding string) bool { return bug == "rounding" && rounding == "bankers" }

// total is the work: the price, in cents, of a basket of n articles.
func total(n int) int {
	sum := 0
	for i := range n {
		sum += 199 + i*i%97
	}
	return sum
}

// String names the ways in which it will misbehave, for the log.
func (o options) String() string {
	if o == (options{}) {
		return ""
	}
	return fmt.Sprintf("(never healthy: %t, ready after: %s, exit after: %s, latency: %s)", o.neverHealthy, o.readyAfter, o.exitAfter, o.latency)
}
