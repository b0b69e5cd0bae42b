package e2e

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/openfaas/go-sdk"
	"github.com/openfaas/go-sdk/stack"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/platform"
)

// openfaas is the real gateway of OpenFaaS, its last revision under the MIT licence, with
// its queue, its Prometheus and a cron by its connector SDK, before our own provider. It
// listens on fixed ports of all interfaces, so it runs in a network of its own: see
// tests/openfaas/run.sh. Its functions share the data folder of the built-in forge.
type openfaas struct {
	w   *world
	sdk *sdk.Client
}

const openfaasGateway = "http://127.0.0.1:8080"

// tool is a program that tests/openfaas/run.sh has built.
func tool(name string) string { return filepath.Join(os.Getenv("HOTSWAP_OPENFAAS"), name) }

func (o *openfaas) start(w *world) {
	o.w = w
	w.functions = openfaasGateway
	w.write("faas/basic-auth-user", "admin")
	w.write("faas/basic-auth-password", "a password of this test only")
	w.write("prometheus.yml", "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: gateway, static_configs: [{targets: ['127.0.0.1:8082']}]}]\n")
	o.spawn("stan", nil, tool("nats-streaming-server"), "-a", "127.0.0.1", "-p", "4222", "-m", "0", "--cluster_id", "faas-cluster", "-store", "memory")
	o.spawn("prometheus", nil, "prometheus", "--config.file="+w.path("prometheus.yml"), "--storage.tsdb.path="+w.path("prometheus"), "--web.listen-address=127.0.0.1:9090")
	o.spawn("provider", nil, tool("provider"), "-dir", w.path("faas", "functions"), "-password-file", w.path("faas", "basic-auth-password"),
		"-images", "hotswap:dev="+built.hotswap+",hello:1="+tool("hello"))
	time.Sleep(500 * time.Millisecond) // the gateway looks for its queue once
	auth := []string{"basic_auth=true", "secret_mount_path=" + w.path("faas")}
	o.spawn("gateway", append(auth, "functions_provider_url=http://127.0.0.1:8091/", "read_timeout=70s", "write_timeout=75s", "upstream_timeout=68s", "scale_from_zero=false",
		"function_namespace="+platform.Namespace, "faas_prometheus_host=127.0.0.1", "faas_prometheus_port=9090", "faas_nats_address=127.0.0.1", "faas_nats_port=4222"), tool("gateway"))
	o.spawn("queue", []string{"faas_nats_address=127.0.0.1", "faas_nats_port=4222", "faas_gateway_address=127.0.0.1", "faas_gateway_port=8080", "ack_wait=70s", "max_inflight=8"}, tool("nats-queue-worker"))
	o.spawn("cron", nil, tool("cron"), openfaasGateway, w.path("faas", "basic-auth-password"))
	at, err := url.Parse(openfaasGateway)
	require.NoError(w.t, err)
	o.sdk = sdk.NewClient(at, &sdk.BasicAuth{Username: "admin", Password: "a password of this test only"}, &http.Client{Timeout: time.Minute})
}

func (o *openfaas) spawn(name string, env []string, program string, args ...string) {
	o.w.t.Helper()
	log, err := os.Create(o.w.path(name + ".log"))
	require.NoError(o.w.t, err)
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = o.w.dir, append(env, "PATH="+os.Getenv("PATH")), log, log
	require.NoError(o.w.t, cmd.Start())
	o.w.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		end := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		end.Stop()
		if o.w.t.Failed() {
			text, _ := os.ReadFile(o.w.path(name + ".log"))
			o.w.t.Logf("%s:\n%s", name, text[max(0, len(text)-3000):])
		}
	})
}

// ready deploys stack.yml with the client of OpenFaaS, and tries everything that the
// gateway does with a function of a user.
func (o *openfaas) ready() {
	t, ctx := o.w.t, o.w.t.Context()
	require.Eventually(t, func() bool {
		r, err := http.Get(openfaasGateway + "/healthz")
		if err == nil {
			r.Body.Close()
		}
		return err == nil && r.StatusCode == http.StatusOK
	}, 20*time.Second, 50*time.Millisecond, "the gateway answers")
	info, err := o.sdk.GetInfo(ctx)
	require.NoError(t, err)
	require.Equal(t, "hotswap", info.Provider.Provider)
	secrets := map[string]string{functions.SecretDatabase: o.w.path("db.url"), functions.SecretGitea: o.w.path("db.url")} // there is no Gitea here
	for name, file := range map[string]string{
		functions.SecretAudit: "audit-signing", functions.SecretTokens: "token-signing", functions.SecretCalls: "function-call", functions.SecretWebhook: "webhook", functions.SecretMetrics: "metrics",
	} {
		secrets[name] = o.w.path("data", "secrets", file)
	}
	for name, file := range secrets {
		value, err := os.ReadFile(file)
		require.NoError(t, err)
		_, err = o.sdk.CreateSecret(ctx, types.Secret{Name: name, Value: string(value)})
		require.NoError(t, err)
	}
	for name, value := range map[string]string{"HOTSWAP_TENANT": "acme", "HOTSWAP_GATEWAY": openfaasGateway, "HOTSWAP_URL": openfaasGateway} {
		require.NoError(t, os.Setenv(name, value))
	}
	services, err := stack.ParseYAMLFile(filepath.Join(root, "stack.yml"), "", "", true)
	require.NoError(t, err)
	for name, f := range services.Functions {
		f.Environment["HOTSWAP_DATA"], f.Environment["HOTSWAP_RECONCILE"] = o.w.path("data"), "1s"
		code, err := o.sdk.Deploy(ctx, types.FunctionDeployment{
			Service: name, Image: f.Image, EnvVars: f.Environment, Secrets: f.Secrets, Labels: f.Labels, Annotations: f.Annotations,
			Limits: &types.FunctionResources{Memory: f.Limits.Memory, CPU: f.Limits.CPU},
		})
		require.NoError(t, err, name)
		require.Equal(t, http.StatusAccepted, code)
	}
	all, err := o.sdk.GetFunctions(ctx, "")
	require.NoError(t, err)
	require.Len(t, all, len(functions.Specs()))
	o.tryHello(ctx)
}

// tryHello deploys, calls, scales and deletes a function of a user.
func (o *openfaas) tryHello(ctx context.Context) {
	t := o.w.t
	_, err := o.sdk.Deploy(ctx, types.FunctionDeployment{Service: "hello", Image: "hello:1", EnvVars: map[string]string{"GREETING": "good day"}, Annotations: &map[string]string{platform.AnnotationPublic: "true"}})
	require.NoError(t, err)
	require.NoError(t, o.sdk.ScaleFunction(ctx, "hello", "", 2))
	f, err := o.sdk.GetFunction(ctx, "hello", "")
	require.NoError(t, err)
	require.EqualValues(t, 2, f.AvailableReplicas)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "", strings.NewReader("x"))
	require.NoError(t, err)
	res, err := o.sdk.InvokeFunction("hello", "", false, false, r)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, "good day from /\n", string(body))

	told := make(chan *http.Request, 1)
	callback := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(text)))
		told <- r
	}))
	defer callback.Close()
	r, err = http.NewRequestWithContext(ctx, http.MethodPost, "", strings.NewReader("x"))
	require.NoError(t, err)
	r.Header.Set("X-Callback-Url", callback.URL)
	res, err = o.sdk.InvokeFunction("hello", "", true, false, r)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusAccepted, res.StatusCode)
	select {
	case q := <-told:
		text, _ := io.ReadAll(q.Body)
		require.Equal(t, "good day from /\n", string(text))
		require.Equal(t, res.Header.Get("X-Call-Id"), q.Header.Get("X-Call-Id"))
	case <-time.After(20 * time.Second):
		require.Fail(t, "the callback was not told")
	}
	lines, err := o.sdk.GetLogs(ctx, "advance", "", false, -1, nil)
	require.NoError(t, err)
	for range lines {
	}
	require.NoError(t, o.sdk.DeleteFunction(ctx, "hello", ""))
	_, err = o.sdk.GetFunction(ctx, "hello", "")
	require.Error(t, err)
}

// calledByCron waits for the schedule of stack.yml, once a minute.
func (o *openfaas) calledByCron(t *testing.T) {
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(o.w.path("cron.log"))
		require.NoError(t, err)
		for _, name := range []string{"advance", "deliver", "validate"} {
			if !strings.Contains(string(text), "invoked "+name+": 202") {
				return false
			}
		}
		return true
	}, 90*time.Second, 200*time.Millisecond, "the cron calls each of them once a minute")
}
