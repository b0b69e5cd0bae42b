// Package target holds what is said between HotSwap and the units it changes:
// orders to a place on a node, reports from it, and the signature of a module.
//
// Nothing here is sent to a node: a node asks for its orders and is answered
// with rows that were written in the transition's transaction.
package target

import "time"

// A Place is where a module lives on a node. Its zero value is no place.
type Place struct {
	Environment string `json:"environment"`
	Deployment  string `json:"deployment"`
}

// Position orders the orders of one place. A node obeys an order only if its
// position is newer than the newest that the node has persisted.
type Position struct {
	Epoch      int64 `json:"epoch"`      // rises when the database was restored from a backup
	Token      int64 `json:"token"`      // the slot's fencing token
	Generation int64 `json:"generation"` // of the order, within the place
}

// Newer reports whether p comes after q: by epoch, then token, then generation.
func (p Position) Newer(q Position) bool {
	if p.Epoch != q.Epoch {
		return p.Epoch > q.Epoch
	}
	if p.Token != q.Token {
		return p.Token > q.Token
	}
	return p.Generation > q.Generation
}

// An Order is what a place should run: an active instance that takes the
// traffic, and a standby that is kept ready. Nil means none.
type Order struct {
	Place    Place     `json:"place"`
	Position Position  `json:"position"`
	Active   *Instance `json:"active,omitempty"`
	Standby  *Instance `json:"standby,omitempty"`
	// Smoke, if not nil, is asked of the standby while it is healthy.
	Smoke *Smoke `json:"smoke,omitempty"`
	// KeepFor is how long the standby is kept once the active takes the traffic,
	// from when the node received the order. 0: until told otherwise.
	KeepFor time.Duration `json:"keepFor,omitempty"`
}

// A Smoke test is a GET on the standby's private port that must answer 2xx.
type Smoke struct {
	Path string `json:"path"`
}

// An Instance is a module with its configuration. Digest identifies the pair:
// an instance of the same digest need not be started again.
type Instance struct {
	Digest  string `json:"digest"`  // canonical digest of Module and Config
	Release string `json:"release"` // id of the release that it came with
	Module  Module `json:"module"`
	Config  Config `json:"config"`
}

// A Module names the bytes to run; fields as in the intent.
type Module struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Artifact  string `json:"artifact"` // URL, short-lived where the store allows it
	Digest    string `json:"digest"`
	Signature string `json:"signature,omitempty"`
	Size      int64  `json:"size,omitempty"`
}

// A Config is what the instance is started with. Durations are in nanoseconds.
type Config struct {
	Args        []string          `json:"args,omitempty"`
	Env         map[string]string `json:"env,omitempty"`
	HealthPath  string            `json:"healthPath"`
	Interval    time.Duration     `json:"interval"`
	Timeout     time.Duration     `json:"timeout"`
	StartWithin time.Duration     `json:"startWithin"`
	Port        int               `json:"port,omitempty"`
	Drain       time.Duration     `json:"drain"`
	Secrets     []SecretRef       `json:"secrets,omitempty"`
	Memory      int64             `json:"memory,omitempty"` // bytes expected at most; 0: the machine's
	CPU         float64           `json:"cpu,omitempty"`    // percent of one core expected at most; 0: the machine's
}

// A SecretRef names a secret that the node asks for and shows to the module as
// the file Name in $CREDENTIALS_DIRECTORY. The value is in no order.
type SecretRef struct {
	Name string `json:"name"`
	From string `json:"from"`
}

// A Phase is where an instance stands on its node.
type Phase string

// The phases of an instance, in the order it goes through them.
const (
	Fetching  Phase = "fetching"  // artifact on its way
	Starting  Phase = "starting"  // process started, not healthy yet
	Healthy   Phase = "healthy"   // last health check passed
	Unhealthy Phase = "unhealthy" // was healthy, last check failed, or restarting after a crash
	Failed    Phase = "failed"    // cannot be had: see Reason
)

// A Reason is the stable code for why an instance failed.
type Reason string

// The reasons.
const (
	ArtifactMissing    Reason = "artifact-missing"   // the URL does not answer with the artifact
	ArtifactTooLarge   Reason = "artifact-too-large" // larger than declared or than the node allows
	DigestMismatch     Reason = "digest-mismatch"
	SignatureInvalid   Reason = "signature-invalid"
	SignatureMissing   Reason = "signature-missing"   // the node is strict and the module is unsigned
	ArchiveInvalid     Reason = "archive-invalid"     // not a gzipped tar, or unsafe members
	CommandMissing     Reason = "command-missing"     // the archive holds no executable of the module's name
	StartFailed        Reason = "start-failed"        // the process cannot be started, or keeps exiting
	NeverHealthy       Reason = "never-healthy"       // not healthy within startWithin
	SecretMissing      Reason = "secret-missing"      // the server does not give a secret that is referred to
	AddressUnavailable Reason = "address-unavailable" // the proxy cannot listen
)

// A Report is what a node sees. Boot and Seq order the reports of one node:
// Boot is the agent's start in Unix nanoseconds, Seq counts within it.
type Report struct {
	Boot   int64         `json:"boot"`
	Seq    int64         `json:"seq"`
	At     time.Time     `json:"at"` // node's clock
	Agent  string        `json:"agent"`
	Places []PlaceReport `json:"places"`
}

// A PlaceReport is the part of a report about one place. Position is that of
// the newest order that the node has persisted and begun to follow, so that the
// rest is never older than it; Active and Standby are what is
// there now, whatever the order says. Active is what takes the traffic; while
// nothing does, it is what is on its way to, and then never [Healthy]. Standby is
// the other one: also a wanted active that cannot be had, with its Reason, while
// Refused says so for the place.
type PlaceReport struct {
	Place    Place           `json:"place"`
	Position Position        `json:"position"`
	Address  string          `json:"address,omitempty"` // of the proxy, host:port
	Active   *InstanceReport `json:"active,omitempty"`
	Standby  *InstanceReport `json:"standby,omitempty"`
	Refused  string          `json:"refused,omitempty"` // why the place as a whole cannot obey
	// RefusedFor is the digest of the wanted active when Refused is only that it
	// cannot be had: a wanted standby is prepared all the same, and reported.
	RefusedFor string `json:"refusedFor,omitempty"`
}

// An InstanceReport is one instance as its node sees it. Counters run from the
// start of the instance; a restart sets them back and raises Restarts.
type InstanceReport struct {
	Digest   string    `json:"digest"`
	Version  string    `json:"version"`
	Phase    Phase     `json:"phase"`
	Reason   Reason    `json:"reason,omitempty"`
	Detail   string    `json:"detail,omitempty"` // one sentence for a person
	Since    time.Time `json:"since"`            // of the phase, node's clock
	Restarts int       `json:"restarts"`
	CPU      float64   `json:"cpu"`    // percent of one core since the last report
	Memory   int64     `json:"memory"` // resident bytes of the process group
	Requests int64     `json:"requests"`
	Errors   int64     `json:"errors"`  // answers >= 500 and broken connections
	Latency  []int64   `json:"latency"` // counts per bucket of [LatencyBounds], last is the rest

	// LatencySum is the sum of all answer times, in seconds, as Latency counts them.
	LatencySum float64 `json:"latencySum"`
	// CPULimit (percent of one core) and MemoryLimit (bytes) are what the instance
	// may use: its declared resources, or the machine's. 0: not known.
	CPULimit    float64 `json:"cpuLimit,omitempty"`
	MemoryLimit int64   `json:"memoryLimit,omitempty"`
	// Smoke counts the smoke tests of a standby since it began to be asked.
	Smoke *SmokeReport `json:"smoke,omitempty"`
}

// A SmokeReport is how the smoke tests of a standby went. It starts anew with
// another path, another instance or another process.
type SmokeReport struct {
	Path   string    `json:"path"`
	Since  time.Time `json:"since"` // of the first test, node's clock
	Last   time.Time `json:"last"`  // of the newest one
	Passed int64     `json:"passed"`
	Failed int64     `json:"failed"`
	Detail string    `json:"detail,omitempty"` // of the newest failure, one sentence
}

// LatencyBounds are the upper bounds of the latency histogram, in seconds.
var LatencyBounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// A Join asks for a place in the fleet. Token is one-time; PublicKey is the
// base64 of the node's Ed25519 public key, made on the node.
type Join struct {
	Token     string            `json:"token"`
	Name      string            `json:"name"` // DNS label, unique per tenant
	PublicKey string            `json:"publicKey"`
	Labels    map[string]string `json:"labels,omitempty"` // must agree with the token's
}

// Joined is the answer to a [Join]. The same join asked again with the same key
// gets the same answer, so that a lost answer costs nothing.
type Joined struct {
	Node   string            `json:"node"` // the node's id, and the id of its key
	Tenant string            `json:"tenant"`
	Labels map[string]string `json:"labels,omitempty"`
}

// WantedRequest asks what the node should run. The answer is held back up to
// Wait while no place has an order newer than Known.
type WantedRequest struct {
	Known []Known       `json:"known"`
	Wait  time.Duration `json:"wait"` // at most 25 s
}

// Known is the newest position that the node has persisted for a place.
type Known struct {
	Place    Place    `json:"place"`
	Position Position `json:"position"`
}

// A SecretsRequest asks for secrets that the newest order for a place refers to.
type SecretsRequest struct {
	Place Place    `json:"place"`
	Names []string `json:"names"` // SecretRef.From
}

// Secrets answers a [SecretsRequest]. It must never be logged.
type Secrets struct {
	Values map[string][]byte `json:"values"` // by name
}

// Wanted answers a [WantedRequest] with the orders that are newer.
type Wanted struct {
	Orders []Order `json:"orders"`
}
