package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"

	"hotswap.dev/hotswap/pkg/secret"
)

// Bounds of the provider's interface.
const (
	maxSystemBody = 256 << 10
	systemTime    = 30 * time.Second // of a request that changes something
	logTime       = 5 * time.Minute  // of a log that is followed
)

// An Access says who may use the provider's interface.
type Access struct {
	User     string
	Password secret.Secret
	// Authorize allows an action on a resource, or says why not, and writes that down.
	Authorize func(ctx context.Context, action, resource string) error
}

// ok reports whether the request carries the user's password.
func (a Access) ok(r *http.Request) bool {
	user, password, given := r.BasicAuth()
	return given && user == a.User && a.Password.Equal(secret.New([]byte(password)))
}

// guard lets those through that have the password, and answers the others. A browser that
// keeps the password sends it with what any page makes it send, so pages of other places are
// refused.
func (a Access) guard(w http.ResponseWriter, r *http.Request) bool {
	if !a.ok(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="hotswap"`)
		w.Header().Set(headerInternal, "gateway")
		http.Error(w, "a user and a password are needed", http.StatusUnauthorized)
		return false
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		w.Header().Set(headerInternal, "gateway")
		http.Error(w, "a page of another place may not ask for this", http.StatusForbidden)
		return false
	}
	return true
}

// The actions of the provider's interface.
const (
	ActionList   = "function.read"
	ActionDeploy = "function.deploy"
	ActionDelete = "function.delete"
	ActionScale  = "function.scale"
	ActionSecret = "function.secret"
	ActionCall   = "function.call"
)

// Provider returns the interface of an OpenFaaS provider: what is below /system/, all of it
// behind the password, the functions below /function/NAME, and /healthz. A gateway of
// OpenFaaS may stand before it; [Gateway] is our own.
func Provider(f *Functions, a Access) http.Handler {
	mux := http.NewServeMux()
	p := provider{functions: f, access: a}
	p.routes(mux)
	return door{rest: mux, function: p.calls(f.proxy())}
}

// A door leads to functions before anything looks at the path: a mux would send callers
// elsewhere whose path is not clean, and that is for the function to decide.
type door struct {
	rest, function, async http.Handler // async may be nil
}

// ServeHTTP implements [http.Handler].
func (d door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/git/") {
		bodyWithin(w, r, systemTime)
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/function/"):
		d.function.ServeHTTP(w, r)
	case d.async != nil && strings.HasPrefix(r.URL.Path, "/async-function/"):
		d.async.ServeHTTP(w, r)
	default:
		d.rest.ServeHTTP(w, r)
	}
}

// bodyWithin bounds how long a caller may take to send the body: who sends nothing holds a
// connection no longer, whatever it is answered.
func bodyWithin(w http.ResponseWriter, r *http.Request, d time.Duration) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(d)) // a writer without a connection has none
	}
}

type provider struct {
	functions *Functions
	access    Access
	gateway   bool // nothing stands before it
}

// routes adds the routes. The route table is the policy: each is added with its action.
func (p provider) routes(mux *http.ServeMux) {
	system := func(pattern, action string, h func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !p.access.guard(w, r) {
				return
			}
			if err := p.allowed(r, action); err != nil {
				refuseSystem(w, r, err)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxSystemBody)
			if err := h(w, r); err != nil {
				refuseSystem(w, r, err)
			}
		})
	}
	system("GET /system/functions", ActionList, p.list)
	system("POST /system/functions", ActionDeploy, p.deploy)
	system("PUT /system/functions", ActionDeploy, p.update)
	system("DELETE /system/functions", ActionDelete, p.delete)
	system("GET /system/function/{name}", ActionList, p.status)
	system("POST /system/scale-function/{name}", ActionScale, p.scale)
	system("GET /system/secrets", ActionList, p.secrets)
	system("POST /system/secrets", ActionSecret, p.createSecret)
	system("PUT /system/secrets", ActionSecret, p.updateSecret)
	system("DELETE /system/secrets", ActionSecret, p.deleteSecret)
	system("GET /system/namespaces", ActionList, func(w http.ResponseWriter, _ *http.Request) error { return answerJSON(w, []string{Namespace}) })
	system("GET /system/namespace/{name}", ActionList, p.namespace)
	system("GET /system/info", ActionList, p.info)
	system("GET /system/logs", ActionList, p.logs)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
}

func (p provider) allowed(r *http.Request, action string) error {
	if p.access.Authorize == nil {
		return nil
	}
	return p.access.Authorize(r.Context(), action, r.Method+" "+r.URL.Path)
}

// errForbidden is what an [Access] answers to whom it does not allow something.
var errForbidden = errors.New("not allowed")

// Forbidden marks an error of [Access.Authorize] as a refusal.
func Forbidden(why error) error { return fmt.Errorf("%w: %w", errForbidden, why) }

// refuseSystem answers a request that was not done.
func refuseSystem(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errForbidden):
		status = http.StatusForbidden
	case errors.Is(err, ErrNoFunction), errors.Is(err, fs.ErrNotExist):
		status = http.StatusNotFound
	case errors.Is(err, ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, ErrOwn), errors.Is(err, errExists):
		status = http.StatusConflict
	case errors.Is(err, ErrBusy):
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", "1")
	case errors.As(err, new(*http.MaxBytesError)):
		status = http.StatusRequestEntityTooLarge
	}
	if status == http.StatusInternalServerError {
		slog.ErrorContext(r.Context(), "functions", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	text := err.Error()
	if errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError)) { // where our files are is nobody's business
		text = "there is no such thing"
		if status == http.StatusInternalServerError {
			text = "it could not be done; see the log"
		}
	}
	http.Error(w, text, status)
}

func answerJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// readJSON reads a body; everything that is wrong with it is [ErrInvalid].
func readJSON(r *http.Request, into any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: the body is not the JSON that is expected here", ErrInvalid) // without its text: it may hold a secret
	}
	return nil
}

func (p provider) inNamespace(r *http.Request) error {
	if ns := r.URL.Query().Get("namespace"); ns != "" && ns != Namespace {
		return fmt.Errorf("%w: the only namespace is %s", ErrInvalid, Namespace)
	}
	return nil
}

func (p provider) list(w http.ResponseWriter, r *http.Request) error {
	if err := p.inNamespace(r); err != nil {
		return err
	}
	out := []types.FunctionStatus{}
	for _, m := range p.functions.list() {
		out = append(out, m.status())
	}
	return answerJSON(w, out)
}

func (p provider) status(w http.ResponseWriter, r *http.Request) error {
	m, err := p.functions.find(r.PathValue("name"))
	if err != nil {
		return err
	}
	return answerJSON(w, m.status())
}

func (p provider) deploy(w http.ResponseWriter, r *http.Request) error {
	var d types.FunctionDeployment
	if err := readJSON(r, &d); err != nil {
		return err
	}
	return p.deployed(w, r, d)
}

func (p provider) deployed(w http.ResponseWriter, r *http.Request, d types.FunctionDeployment) error {
	ctx, cancel := context.WithTimeout(r.Context(), systemTime)
	defer cancel()
	if err := p.functions.Deploy(ctx, d); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (p provider) update(w http.ResponseWriter, r *http.Request) error {
	var d types.FunctionDeployment
	if err := readJSON(r, &d); err != nil {
		return err
	}
	if _, err := p.functions.find(d.Service); err != nil {
		return err
	}
	return p.deployed(w, r, d)
}

func (p provider) delete(w http.ResponseWriter, r *http.Request) error {
	var d types.DeleteFunctionRequest
	if err := readJSON(r, &d); err != nil {
		return err
	}
	if err := p.functions.Delete(r.Context(), d.FunctionName); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (p provider) scale(w http.ResponseWriter, r *http.Request) error {
	var s types.ScaleServiceRequest
	if err := readJSON(r, &s); err != nil {
		return err
	}
	if s.ServiceName != "" && baseName(s.ServiceName) != baseName(r.PathValue("name")) {
		return fmt.Errorf("%w: the path and the body name two functions", ErrInvalid)
	}
	if s.Replicas > maxReplicas {
		return fmt.Errorf("%w: at most %d processes", ErrInvalid, maxReplicas)
	}
	ctx, cancel := context.WithTimeout(r.Context(), systemTime)
	defer cancel()
	if err := p.functions.Scale(ctx, r.PathValue("name"), int(s.Replicas)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (p provider) secrets(w http.ResponseWriter, r *http.Request) error {
	if err := p.inNamespace(r); err != nil {
		return err
	}
	names, err := p.functions.secretNames()
	if err != nil {
		return err
	}
	out := []types.Secret{}
	for _, name := range names {
		out = append(out, types.Secret{Name: name, Namespace: Namespace})
	}
	return answerJSON(w, out)
}

func (p provider) createSecret(w http.ResponseWriter, r *http.Request) error {
	return p.putSecret(w, r, true, http.StatusCreated)
}

func (p provider) updateSecret(w http.ResponseWriter, r *http.Request) error {
	return p.putSecret(w, r, false, http.StatusAccepted)
}

func (p provider) putSecret(w http.ResponseWriter, r *http.Request, isNew bool, status int) error {
	var s types.Secret
	if err := readJSON(r, &s); err != nil {
		return err
	}
	value := s.RawValue
	if s.Value != "" {
		value = []byte(s.Value)
	}
	if err := p.functions.putSecret(s.Name, value, isNew); err != nil {
		return err
	}
	w.WriteHeader(status)
	return nil
}

func (p provider) deleteSecret(w http.ResponseWriter, r *http.Request) error {
	var s types.Secret
	if err := readJSON(r, &s); err != nil {
		return err
	}
	if err := p.functions.deleteSecret(s.Name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (p provider) namespace(w http.ResponseWriter, r *http.Request) error {
	if r.PathValue("name") != Namespace {
		return fmt.Errorf("%w: namespace", fs.ErrNotExist)
	}
	return answerJSON(w, types.FunctionNamespace{Name: Namespace, Annotations: map[string]string{"openfaas": "1"}})
}

// info says what answers. A gateway of OpenFaaS puts what a provider says into its own
// answer, which is what clients read.
func (p provider) info(w http.ResponseWriter, _ *http.Request) error {
	if p.gateway {
		return gatewayInfo(w)
	}
	return answerJSON(w, types.ProviderInfo{Name: "hotswap", Orchestration: "processes", Version: version()})
}

// version is that of this program.
func version() *types.VersionInfo {
	v := &types.VersionInfo{Release: "dev", SHA: "unknown"}
	if b, ok := debug.ReadBuildInfo(); ok {
		if b.Main.Version != "" {
			v.Release = strings.Trim(b.Main.Version, "()")
		}
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				v.SHA = s.Value
			}
		}
	}
	return v
}

// arch is the machine's kind, as OpenFaaS names it.
func arch() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

func (p provider) logs(w http.ResponseWriter, r *http.Request) error {
	if _, err := p.functions.find(r.URL.Query().Get("name")); err != nil {
		return err
	}
	logs.NewLogHandlerFunc(p.functions, logTime)(w, r)
	return nil
}

// calls passes calls on to functions. One that authenticates its own callers is public;
// others are called by those who may deploy.
func (p provider) calls(proxy *httputil.ReverseProxy) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, rest, err := splitFunctionPath(r.URL.EscapedPath(), "/function/")
		if err != nil {
			refuseCall(w, r, ErrNoFunction)
			return
		}
		m, err := p.functions.find(name)
		if err != nil {
			refuseCall(w, r, err)
			return
		}
		if !p.mayCall(w, r, m) {
			return
		}
		p.functions.call(w, r, proxy, name, rest)
	})
}

// mayCall reports whether the caller may call the function, and answers if not. Our own
// password is not passed on to a function.
func (p provider) mayCall(w http.ResponseWriter, r *http.Request, m *managed) bool {
	m.mu.Lock()
	public := m.d.public
	m.mu.Unlock()
	if public {
		if p.access.ok(r) {
			r.Header.Del("Authorization")
		}
		return true
	}
	return p.mayQueue(w, r)
}
