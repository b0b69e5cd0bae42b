// Package promserver starts a real Prometheus for a test.
package promserver

import (
	"bufio"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Start starts a Prometheus with a configuration file, and returns its URL. It ends
// with the test. Without the program the test is skipped.
func Start(t *testing.T, config string) string {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed; install it with: sudo apt-get install -y --no-install-recommends prometheus")
	}
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+t.TempDir(), "--web.listen-address=127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	started := make(chan error)
	ended := make(chan struct{})
	addresses := make(chan string, 1)
	go func() { // Pdeathsig is sent when the thread that forked ends: this one stays until the end
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			listening(stderr, addresses)
			_ = cmd.Wait()
		}
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	select {
	case address, ok := <-addresses:
		require.True(t, ok, "prometheus ended before it listened")
		require.Eventually(t, func() bool { return ready(address) }, 30*time.Second, 50*time.Millisecond, "prometheus does not become ready")
		return "http://" + address
	case <-time.After(30 * time.Second):
		t.Fatal("prometheus does not listen")
		return ""
	}
}

func ready(address string) bool {
	resp, err := http.Get("http://" + address + "/-/ready")
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// listening sends the address that a log speaks of, and reads the log to its end.
func listening(log io.Reader, addresses chan<- string) {
	defer close(addresses)
	says := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
	lines := bufio.NewScanner(log)
	for found := false; lines.Scan(); {
		if m := says.FindStringSubmatch(lines.Text()); m != nil && !found {
			addresses <- m[1]
			found = true
		}
	}
}
