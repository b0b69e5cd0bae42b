package function_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
)

// listenEnv makes the test binary a function that listens as its environment says.
const listenEnv = "FUNCTION_TEST_LISTEN"

func TestMain(m *testing.M) {
	if os.Getenv(listenEnv) != "" {
		if err := listenAndServe(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func listenAndServe() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	l, err := function.Listen(os.Getenv)
	if err != nil {
		return err
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	return function.Server{Handler: h, Timeouts: function.DefaultTimeouts()}.Serve(ctx, l)
}

// listening starts the test binary with these variables and files.
func listening(t *testing.T, files []*os.File, vars ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append([]string{listenEnv + "=1"}, vars...)
	cmd.ExtraFiles = files
	return cmd
}

func TestASocketIsTakenAsTheHostHandsItOver(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	f, err := l.File()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	cmd := listening(t, []*os.File{f}, "LISTEN_FDS=1")
	require.NoError(t, cmd.Start())
	require.NoError(t, f.Close())
	client := &http.Client{Timeout: 20 * time.Second}
	got, err := client.Get("http://" + l.Addr().String())
	require.NoError(t, err, "a call waits in the socket until the process takes it")
	b, err := io.ReadAll(got.Body)
	require.NoError(t, err)
	require.NoError(t, got.Body.Close())
	require.Equal(t, fmt.Sprint(cmd.Process.Pid), string(b))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "told to end, it ends well")
}

func TestASocketThatIsNotTheFunctionsIsRefused(t *testing.T) {
	plain, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer plain.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	for name, c := range map[string]struct {
		files []*os.File
		vars  []string
		want  string
	}{
		"of another process":    {[]*os.File{socket}, []string{"LISTEN_FDS=1", "LISTEN_PID=1"}, "meant for process 1"},
		"two":                   {[]*os.File{socket, socket}, []string{"LISTEN_FDS=2"}, "takes one socket"},
		"not a number":          {[]*os.File{socket}, []string{"LISTEN_FDS=x"}, "takes one socket"},
		"a file":                {[]*os.File{plain}, []string{"LISTEN_FDS=1"}, "the socket that was handed over"},
		"none that can be used": {nil, []string{"LISTEN_FDS=1"}, "the socket that was handed over"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := listening(t, c.files, c.vars...).Output()
			require.Error(t, err)
			require.Contains(t, string(out), c.want)
		})
	}
}

func TestWithoutASocketItListensOnItsPort(t *testing.T) {
	l, err := function.Listen(env("PORT", "0", "HOST", "127.0.0.1"))
	require.NoError(t, err)
	defer l.Close()
	at := l.Addr().(*net.TCPAddr)
	require.True(t, at.IP.IsLoopback())
	_, err = function.Listen(env("PORT", fmt.Sprint(at.Port), "HOST", "127.0.0.1"))
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	everywhere, err := function.Listen(env("PORT", "0"))
	require.NoError(t, err)
	defer everywhere.Close()
	require.True(t, everywhere.Addr().(*net.TCPAddr).IP.IsUnspecified(), "a container is reached from outside it")
	for _, wrong := range []string{"http", "-1", "65536", "80 ", "0x50"} {
		_, err := function.Listen(env("PORT", wrong))
		require.ErrorContains(t, err, "is not a port", wrong)
	}
}
