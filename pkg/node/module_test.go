package node

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// moduleRole as the first argument makes this test binary play a module: its
// archives hold a script that starts the binary so. It cannot be a variable,
// because a module gets a minimal environment, which is one of the things to test.
const moduleRole = "play-a-module"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == moduleRole {
		playModule(os.Args[2:])
	}
	os.Exit(m.Run())
}

// playModule answers /env, /pid, /hold (until /release is asked), /upgrade (an echo).
func playModule(args []string) {
	flags := flag.NewFlagSet("module", flag.ExitOnError)
	never := flags.Bool("never-healthy", false, "")
	exit := flags.String("exit", "", "say this and exit")
	stubborn := flags.Bool("ignore-term", false, "")
	children := flags.Bool("children", false, "")
	_ = flags.Parse(args)
	if *exit != "" {
		fmt.Println(*exit)
		os.Exit(7)
	}
	if *stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	if *children {
		startChild(&syscall.SysProcAttr{})
		startChild(&syscall.SysProcAttr{Setsid: true})
	}
	release := make(chan struct{}, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if *never {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("/pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("/fail", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(9) })
	mux.HandleFunc("/hold", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-release
		fmt.Fprint(w, "released")
	})
	mux.HandleFunc("/release", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0")
		_ = http.NewResponseController(w).Flush() // the whole answer: what is released may end the module
		release <- struct{}{}
	})
	mux.HandleFunc("/upgrade", upgrade)
	server := &http.Server{Addr: os.Getenv("HOTSWAP_ADDRESS"), Handler: mux, ReadHeaderTimeout: time.Minute}
	fmt.Println(server.ListenAndServe())
	os.Exit(1)
}

func startChild(attr *syscall.SysProcAttr) {
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
	}
}

// upgrade answers 101 and then echoes one line.
func upgrade(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "echo")
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func(c net.Conn) { _ = c.Close() }(conn)
	line, err := bufio.NewReader(rw).ReadString('\n')
	if err == nil {
		_, _ = fmt.Fprint(conn, "echo "+line)
	}
}
