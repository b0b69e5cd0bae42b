package node

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// LongestReportInterval is half of the time after which a node that is not heard
// counts as silent, and holds promotions up: see pkg/promotion.
const LongestReportInterval = 10 * time.Second

// Options configure an [Agent]. A zero value of an optional field means the
// default that its comment names. Nothing else is read: no environment, no files
// but those that are named here.
type Options struct {
	Server    string // base URL of the HotSwap server, http or https, may have a path
	Name      string // DNS label, unique per tenant
	State     string // folder of the agent's own, made with mode 0700
	TokenFile string // holds the one-time join token; read only for the join

	Labels map[string]string // asked for at the join

	Trusted       []ed25519.PublicKey // whose modules may run
	AllowUnsigned bool                // default: unsigned modules are refused
	FileArtifacts string              // folder below which file:// artifacts may lie; empty: none may

	Address string            // host that proxies listen on; default 127.0.0.1
	Routes  map[string]string // host:port by deployment or environment/deployment

	ReportInterval time.Duration // default 5 s, at most [LongestReportInterval]
	SecretsEvery   time.Duration // between two looks for secrets that were changed; default 30 s
	PollWait       time.Duration // longest held answer that is asked for; default and at most 25 s

	// Takeover makes Run fail unless it replaces an agent that lives on State.
	// Without it Run replaces one if there is one.
	Takeover bool

	Limits  Limits
	Restart Restart
	Version string       // of this build, for reports
	Log     *slog.Logger // default: discards
}

// Limits bound what an artifact may cost. Zero means the default.
type Limits struct {
	Artifact int64         // bytes of the archive; default 512 MiB
	Unpacked int64         // bytes of all members; default 2 GiB
	Members  int           // default 20 000
	Fetch    time.Duration // whole download; default 10 min
	Tries    int           // downloads of one artifact, while the store cannot be reached; default 4
	Cached   int           // artifacts kept although nothing runs them; default 3
	Log      int64         // bytes per log file, two per place; default 1 MiB
}

// Restart says how a module that exits is started again. Zero means the default.
type Restart struct {
	First   time.Duration // wait before the first restart; default 100 ms, doubled each time
	Longest time.Duration // default 10 s
	Tries   int           // restarts without Calm in between, then the instance is failed; default 5
	Calm    time.Duration // healthy for so long, an instance starts counting anew; default 1 min
}

// ErrOptions is wrapped by every error about a field of [Options].
var ErrOptions = errors.New("node options")

func (o Options) withDefaults() (Options, error) {
	u, err := url.Parse(o.Server)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return o, fmt.Errorf("%w: server must be an http or https URL", ErrOptions)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return o, fmt.Errorf("%w: server must have neither user, query nor fragment", ErrOptions)
	case !dnsLabel(o.Name):
		return o, fmt.Errorf("%w: name %q is not a DNS label", ErrOptions, o.Name)
	case o.State == "":
		return o, fmt.Errorf("%w: state folder is missing", ErrOptions)
	case len(o.Trusted) == 0 && !o.AllowUnsigned:
		return o, fmt.Errorf("%w: no trusted keys, so no module could ever run", ErrOptions)
	}
	if o.FileArtifacts != "" && !filepath.IsAbs(o.FileArtifacts) {
		return o, fmt.Errorf("%w: file artifacts folder %q is not absolute", ErrOptions, o.FileArtifacts)
	}
	for route, address := range o.Routes {
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" || port == "0" {
			return o, fmt.Errorf("%w: route of %s: %q is not host:port", ErrOptions, route, address)
		}
	}
	o.Server = strings.TrimRight(o.Server, "/")
	orElse(&o.Address, "127.0.0.1")
	orElse(&o.ReportInterval, 5*time.Second)
	if o.ReportInterval > LongestReportInterval {
		return o, fmt.Errorf("%w: report interval %s is over %s", ErrOptions, o.ReportInterval, LongestReportInterval)
	}
	orElse(&o.PollWait, longestWait)
	orElse(&o.SecretsEvery, 30*time.Second)
	o.PollWait = min(o.PollWait, longestWait)
	orElse(&o.Version, "dev")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Limits, o.Restart = o.Limits.withDefaults(), o.Restart.withDefaults()
	return o, nil
}

func (l Limits) withDefaults() Limits {
	orElse(&l.Artifact, 512<<20)
	orElse(&l.Unpacked, 2<<30)
	orElse(&l.Members, 20_000)
	orElse(&l.Fetch, 10*time.Minute)
	orElse(&l.Tries, 4)
	orElse(&l.Cached, 3)
	orElse(&l.Log, 1<<20)
	return l
}

func (r Restart) withDefaults() Restart {
	orElse(&r.First, 100*time.Millisecond)
	orElse(&r.Longest, 10*time.Second)
	orElse(&r.Tries, 5)
	orElse(&r.Calm, time.Minute)
	return r
}

// orElse sets *v to fallback if it is zero.
func orElse[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}
