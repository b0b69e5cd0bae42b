package function

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// The environment of a process that is handed its socket, as systemd hands it: see
// sd_listen_fds(3). It is open before the process runs, so a call that comes while it
// starts waits instead of being refused.
const (
	socketsEnv   = "LISTEN_FDS"
	socketsPID   = "LISTEN_PID"
	firstSocket  = 3
	openFaaSPort = 8080 // where OpenFaaS looks for a function
)

// Listen returns the socket that the host handed over, or listens on $PORT of all
// interfaces, by default 8080: a function in a container is reached from outside it.
func Listen(getenv func(string) string) (net.Listener, error) {
	if getenv(socketsEnv) != "" {
		return inherited(getenv)
	}
	port := openFaaSPort
	if text := getenv("PORT"); text != "" {
		p, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("PORT=%q is not a port", text)
		}
		port = int(p)
	}
	return net.Listen("tcp", net.JoinHostPort(getenv("HOST"), strconv.Itoa(port)))
}

func inherited(getenv func(string) string) (net.Listener, error) {
	if pid := getenv(socketsPID); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("the socket is meant for process %s", pid)
	}
	if getenv(socketsEnv) != "1" {
		return nil, fmt.Errorf("%s=%s: a function takes one socket", socketsEnv, getenv(socketsEnv))
	}
	f := os.NewFile(firstSocket, "socket")
	if f == nil {
		return nil, errors.New("no socket was handed over")
	}
	defer f.Close() // the listener has its own copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket that was handed over: %w", err)
	}
	return l, nil
}
