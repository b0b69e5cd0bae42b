package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
)

// program builds a program of this repository.
func program(b *testing.B, dir, pkg string) string {
	b.Helper()
	out := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = "../.."
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
	return out
}

// BenchmarkCall measures one call of a function that does nothing, and of one that stores a
// webhook: sent to its process, and through the gateway of the embedded platform. With
// HOTSWAP_OPENFAAS, a folder with the programs of tests/openfaas, in a network of its own,
// the real gateway of OpenFaaS before our provider is beside them.
func BenchmarkCall(b *testing.B) {
	dir := b.TempDir()
	hello := program(b, dir, "./deploy/demo/hello")
	b.Run("direct", func(b *testing.B) {
		at := freePort(b)
		host, port, _ := net.SplitHostPort(at)
		cmd := exec.Command(hello)
		cmd.Env = []string{"HOST=" + host, "PORT=" + port}
		must(b, cmd.Start())
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		calls(b, "http://"+at+"/")
	})
	b.Run("gateway", func(b *testing.B) {
		f := withHello(b, hello)
		s := httptest.NewServer(platform.Gateway(platform.GatewayOptions{Functions: f, Access: access()}))
		b.Cleanup(s.Close)
		calls(b, s.URL+"/function/hello/")
	})
	b.Run("openfaas", func(b *testing.B) {
		tools := os.Getenv("HOTSWAP_OPENFAAS")
		if tools == "" {
			b.Skip("the real gateway of OpenFaaS is built by tests/openfaas/run.sh, whose folder HOTSWAP_OPENFAAS names")
		}
		provider := &http.Server{Addr: "127.0.0.1:8091", Handler: platform.Provider(withHello(b, hello), access()), ReadHeaderTimeout: time.Minute}
		go func() { _ = provider.ListenAndServe() }()
		b.Cleanup(func() { _ = provider.Close() })
		secrets := b.TempDir()
		must(b, os.WriteFile(filepath.Join(secrets, "basic-auth-user"), []byte("admin"), 0o600))
		must(b, os.WriteFile(filepath.Join(secrets, "basic-auth-password"), []byte("of a benchmark"), 0o600))
		cmd := exec.Command(filepath.Join(tools, "gateway"))
		cmd.Env = []string{
			"basic_auth=true", "secret_mount_path=" + secrets, "functions_provider_url=http://127.0.0.1:8091/", "function_namespace=" + platform.Namespace,
			"read_timeout=60s", "write_timeout=60s", "upstream_timeout=50s", "faas_prometheus_host=127.0.0.1", "faas_prometheus_port=9090",
		}
		must(b, cmd.Start())
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		calls(b, "http://127.0.0.1:8080/function/hello/")
	})
	hotswap := program(b, dir, "./cmd/hotswap")
	b.Run("webhook-direct", func(b *testing.B) {
		w := newWorld(b)
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		must(b, err)
		socket, err := l.File()
		must(b, err)
		credentials := b.TempDir()
		for _, name := range webhookSecrets() {
			value, err := w.functionSecret(name)
			must(b, err)
			must(b, os.WriteFile(filepath.Join(credentials, name), value.Reveal(), 0o600))
		}
		cmd := exec.Command(hotswap, "function", "forge-webhook")
		cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(webhookEnv(), "LISTEN_FDS=1", "CREDENTIALS_DIRECTORY="+credentials), []*os.File{socket}, os.Stderr
		must(b, cmd.Start())
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = socket.Close(); _ = l.Close() })
		w.url = "http://" + l.Addr().String()
		w.deliverTo(b, "")
	})
	b.Run("webhook-gateway", func(b *testing.B) {
		w := newWorld(b)
		w.behindGateway(b, hotswap)
		w.deliverTo(b, "/function/forge-webhook")
	})
}

// BenchmarkReplicas measures how many deliveries a second one process of the function that
// takes webhooks stores durably, and four of them, for 32 forges at once.
func BenchmarkReplicas(b *testing.B) {
	hotswap := program(b, b.TempDir(), "./cmd/hotswap")
	for _, n := range []int{1, 4} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			w := newWorld(b)
			f := w.behindGateway(b, hotswap)
			must(b, f.Scale(b.Context(), "forge-webhook", n))
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			var sent atomic.Int64
			b.SetParallelism(16) // on two cores
			b.ResetTimer()
			began := time.Now()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					post(b, client, w.webhook(b, fmt.Sprintf("%040x", sent.Add(1))))
				}
			})
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "deliveries/s")
		})
	}
}

// behindGateway puts the function that takes webhooks behind the gateway of the embedded platform.
func (w *world) behindGateway(b *testing.B, hotswap string) *platform.Functions {
	b.Helper()
	env := map[string]string{}
	for _, e := range webhookEnv() {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	f, err := platform.OpenFunctions(platform.FunctionsOptions{
		Dir: b.TempDir(), Env: []string{"PATH=" + os.Getenv("PATH")}, Secret: w.functionSecret,
		Own: []platform.OwnFunction{{Command: []string{hotswap, "function", "forge-webhook"}, Deployment: types.FunctionDeployment{
			Service: "forge-webhook", Image: "hotswap", EnvVars: env, Secrets: webhookSecrets(), Annotations: &map[string]string{platform.AnnotationPublic: "true"},
		}}},
	})
	must(b, err)
	b.Cleanup(f.Close)
	s := httptest.NewServer(platform.Gateway(platform.GatewayOptions{Functions: f, Access: access()}))
	b.Cleanup(s.Close)
	w.url = s.URL
	return f
}

func webhookEnv() []string { return []string{"HOTSWAP_TENANT=" + tenant, "HOTSWAP_REPOSITORY=deploy"} }

func webhookSecrets() []string {
	return []string{functions.SecretDatabase, functions.SecretAudit, functions.SecretCalls, functions.SecretWebhook}
}

// functionSecret is what a host gives the function that takes webhooks.
func (w *world) functionSecret(name string) (secret.Secret, error) {
	switch name {
	case functions.SecretDatabase:
		return secret.New([]byte(w.dsn)), nil
	case functions.SecretWebhook:
		return hookSecret, nil
	default:
		return secret.New([]byte(strings.Repeat("0b", 32))), nil
	}
}

// deliverTo is deliver, where the function is below a path.
func (w *world) deliverTo(b *testing.B, below string) {
	b.Helper()
	client := &http.Client{}
	send := func(i int) time.Duration {
		r := w.webhook(b, fmt.Sprintf("%040x", i))
		r.URL.Path = below + "/" + tenant + "/deploy"
		began := time.Now()
		post(b, client, r)
		return time.Since(began)
	}
	send(0) // starts the process
	var took []time.Duration
	for i := 1; b.Loop(); i++ {
		took = append(took, send(i))
	}
	report(b, took)
}

func access() platform.Access {
	return platform.Access{User: "admin", Password: secret.New([]byte("of a benchmark"))}
}

// withHello is the embedded platform with one public function.
func withHello(b *testing.B, binary string) *platform.Functions {
	b.Helper()
	f, err := platform.OpenFunctions(platform.FunctionsOptions{Dir: b.TempDir(), Env: []string{"PATH=" + os.Getenv("PATH")}})
	must(b, err)
	b.Cleanup(f.Close)
	must(b, f.AddImage("hello", binary))
	must(b, f.Deploy(b.Context(), types.FunctionDeployment{Service: "hello", Image: "hello", Annotations: &map[string]string{platform.AnnotationPublic: "true"}}))
	return f
}

// calls makes calls one after the other and reports how long each took.
func calls(b *testing.B, url string) {
	b.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	once := func() error {
		r, err := client.Get(url)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		if err == nil && r.StatusCode != http.StatusOK {
			b.Fatalf("%s answered %s", url, r.Status)
		}
		return err
	}
	for end := time.Now().Add(10 * time.Second); once() != nil; {
		if time.Now().After(end) {
			b.Fatalf("%s does not answer", url)
		}
		time.Sleep(10 * time.Millisecond)
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		must(b, once())
		took = append(took, time.Since(began))
	}
	report(b, took)
}

func freePort(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer l.Close()
	return l.Addr().String()
}

// BenchmarkColdStart measures from the start of a process to its first answer: our program
// as a function, and one of net/http and nothing else.
func BenchmarkColdStart(b *testing.B) {
	dir := b.TempDir()
	for name, c := range map[string][]string{
		"function": {program(b, dir, "./cmd/hotswap"), "function", "advance"},
		"bare":     {program(b, dir, "./tests/bench/bare")},
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				took = append(took, coldStart(b, c))
			}
			report(b, took)
		})
	}
}

// coldStart hands a process its socket, on which the first call waits already.
func coldStart(b *testing.B, command []string) time.Duration {
	b.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(b, err)
	defer l.Close()
	socket, err := l.File()
	must(b, err)
	defer socket.Close()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.ExtraFiles = []string{"LISTEN_FDS=1"}, []*os.File{socket}
	began := time.Now()
	must(b, cmd.Start())
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}).Get("http://" + l.Addr().String() + "/_/health")
	took := time.Since(began)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	must(b, err)
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		b.Fatalf("answered %s", r.Status)
	}
	return took
}
