package intent

import "hotswap.dev/hotswap/pkg/approval"

// APIVersion is the only version of the declarative kinds that this build reads.
const APIVersion = "hotswap.dev/v1"

// The kinds, as they stand in a document's `kind`.
const (
	KindDeployment  = "Deployment"
	KindPipeline    = "Pipeline"
	KindEnvironment = "Environment"
	KindAnalysis    = "Analysis"
	KindPolicy      = "Policy"
)

// Metadata names a document. Name is a DNS label (RFC 1123, at most 63 octets).
type Metadata struct {
	Name   string `json:"name"`
	Tenant string `json:"tenant,omitempty"` // empty: the tenant of the repository
}

// A Deployment is the intent: which module, configured how, through which pipeline.
type Deployment struct {
	Metadata Metadata       `json:"metadata"`
	Spec     DeploymentSpec `json:"spec"`
}

// A DeploymentSpec is the body of a [Deployment].
type DeploymentSpec struct {
	Module       Module              `json:"module"`
	Config       Config              `json:"config,omitzero"`
	Environments map[string]Override `json:"environments,omitempty"` // by environment name
	Pipeline     string              `json:"pipeline"`
}

// A Module is the program that is deployed. Digest is "sha256:" and 64 hex
// digits over the artifact's bytes; Signature is "ed25519:" and the base64 of a
// detached signature (see pkg/target); Size is in bytes, zero when not declared.
type Module struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Artifact  string `json:"artifact"` // file, http or https URL of a gzipped tar
	Digest    string `json:"digest"`
	Signature string `json:"signature,omitempty"`
	Size      int64  `json:"size,omitempty"`
}

// A Config is what a module is started with. Durations are Go durations ("10s").
type Config struct {
	Args   []string          `json:"args,omitempty"`
	Env    map[string]string `json:"env,omitempty"`
	Health Health            `json:"health,omitzero"`
	Port   int               `json:"port,omitempty"` // of the node's proxy for this module; 0: the node chooses
	Drain  string            `json:"drain,omitempty"`
	// Secrets are references: the values never stand in Git, in an order or in an audit row.
	Secrets   []SecretRef `json:"secrets,omitempty"`
	Resources Resources   `json:"resources,omitzero"`
}

// A SecretRef makes the secret From ("checkout/db") readable for the module as
// the file Name in its $CREDENTIALS_DIRECTORY.
type SecretRef struct {
	Name string `json:"name"`
	From string `json:"from"`
}

// Resources are what one instance is expected to stay within. Stabilisation
// judges use against them, and against the machine where they say nothing.
// Memory is in bytes with an optional Ki, Mi or Gi ("512Mi"), CPU in cores or
// thousandths ("0.5", "500m"). Nothing is limited by them.
type Resources struct {
	Memory string `json:"memory,omitempty"`
	CPU    string `json:"cpu,omitempty"`
}

// Health is how a node asks an instance whether it can serve: GET Path on the
// instance's private port must answer 2xx within Timeout. StartWithin bounds
// the time from start to the first healthy answer.
type Health struct {
	Path        string `json:"path,omitempty"`
	Interval    string `json:"interval,omitempty"`
	Timeout     string `json:"timeout,omitempty"`
	StartWithin string `json:"startWithin,omitempty"`
}

// An Override is what a deployment changes for one environment. Args replace,
// Env and Secrets merge by name, the scalar fields replace when they are set.
type Override struct {
	Config Config `json:"config,omitzero"`
}

// A Pipeline is a graph of stages.
type Pipeline struct {
	Metadata Metadata     `json:"metadata"`
	Spec     PipelineSpec `json:"spec"`
}

// What happens when releases meet at a slot.
const (
	Supersede = "supersede" // the newest whose gates are all true goes, the older ones end
	Queue     = "queue"     // the oldest that is open goes first, every one has its turn
)

// A PipelineSpec is the body of a [Pipeline]. Concurrency is [Supersede] or
// [Queue], for every stage that says nothing itself.
type PipelineSpec struct {
	Concurrency string  `json:"concurrency,omitempty"`
	Stages      []Stage `json:"stages"`
}

// A Stage is a node of the pipeline: an environment, a strategy, gates and what
// must have succeeded before. An environment belongs to one stage of a pipeline.
type Stage struct {
	Name        string   `json:"name"`
	Needs       []string `json:"needs,omitempty"`
	Environment string   `json:"environment"`
	Concurrency string   `json:"concurrency,omitempty"` // the pipeline's by default
	// OnNewer is what a running promotion does when the gates of a newer release
	// are all true: "wait" (the default), or "abort" at the end of its wave.
	OnNewer   string    `json:"onNewer,omitempty"`
	Gates     Gates     `json:"gates,omitzero"`
	Strategy  Strategy  `json:"strategy"`
	OnFailure OnFailure `json:"onFailure,omitzero"`
}

// Gates are the conditions of a promotion. All are evaluated together, and
// again when the slot is taken.
type Gates struct {
	// Approval is who must agree: the name of a [Policy], or "operator": that an operator says
	// hotswap promote. Missing for longer than Deadline, the promotion expires.
	Approval string `json:"approval,omitempty"`
	Deadline string `json:"deadline,omitempty"` // default 24h; only with Approval
	// Windows are names of windows of the environment. One of those that allow
	// must be open, if there are any, and none of those that deny.
	Windows []string `json:"windows,omitempty"`
	Soak    Soak     `json:"soak,omitzero"`
	// Checks are names of external checks. Each must have been said to have passed.
	Checks []string `json:"checks,omitempty"`
}

// Operator is the approval that one operator's word gives: no policy is called so.
const Operator = "operator"

// Policy returns the name of the policy whose reviews open the stage; empty: none does.
func (g Gates) Policy() string {
	if g.Approval == Operator {
		return ""
	}
	return g.Approval
}

// A Policy says whose reviews open a stage. It is not frozen: it is read from the branch
// that is released from, as it is now.
type Policy struct {
	Metadata Metadata        `json:"metadata"`
	Spec     approval.Policy `json:"spec"`
}

// A Soak is how long every needed stage must have succeeded.
type Soak struct {
	For string `json:"for"`
}

// The types of strategy.
const (
	Direct    = "direct"    // prepare all units, then switch all
	Rolling   = "rolling"   // batch by batch
	BlueGreen = "blueGreen" // prepare all, test the standby, switch all together, keep the old
	Canary    = "canary"    // growing shares of the units, each compared with the rest
)

// A Strategy says how the units of a stage are changed. Deadline bounds each
// phase of each wave that has no bound of its own.
type Strategy struct {
	Type string `json:"type"`
	// HealthyFor is how long the units of a wave must be seen healthy after their
	// switch, where no Stabilization says more.
	HealthyFor string `json:"healthyFor,omitempty"`
	Deadline   string `json:"deadline,omitempty"`
	// MaxUnavailable is the size of a rolling batch, and how many units may leave
	// the fleet meanwhile and be skipped: a count ("2") or a share that is rounded
	// up ("25%"). Default "1" for rolling, "0" for the others.
	MaxUnavailable string `json:"maxUnavailable,omitempty"`
	// Stabilization is the name of the [Analysis] whose stabilization every wave,
	// and of blueGreen the standby too, must pass.
	Stabilization string `json:"stabilization,omitempty"`
	Smoke         Smoke  `json:"smoke,omitzero"`       // of the standby; blueGreen only
	KeepOldFor    string `json:"keepOldFor,omitempty"` // how long the former instance is kept warm; blueGreen only
	// Waves are the cumulative shares of a canary, strictly rising to "100%".
	Waves []string `json:"waves,omitempty"`
	// Analysis is the name of the [Analysis] that judges every wave of a canary.
	Analysis string `json:"analysis,omitempty"`
	// Units says what an approval of the plan covers: "selector" (the default) the
	// selector and the shares, "exact" the ordered units as they are now.
	Units string `json:"units,omitempty"`
}

// A Smoke test asks every standby: GET Path must answer 2xx each time for the
// length of For, before any traffic moves.
type Smoke struct {
	Path string `json:"path,omitempty"`
	For  string `json:"for,omitempty"`
}

// OnFailure says what follows when a unit fails after the switch began, or when
// the analysis finds harm: Action is "rollback" (the default) or "fail" (leave
// the units as they are). Hold bars a harmful artifact from the slot until a
// person lifts it. Retries is how often a promotion that failed without harm is
// tried again by itself.
type OnFailure struct {
	Action  string `json:"action,omitempty"`
	Hold    bool   `json:"hold,omitempty"`
	Retries int    `json:"retries,omitempty"`
}

// An Environment is where a stage deploys to.
type Environment struct {
	Metadata Metadata        `json:"metadata"`
	Spec     EnvironmentSpec `json:"spec"`
}

// An EnvironmentSpec is the body of an [Environment]: the nodes whose labels
// contain every pair of Selector. Target is "node".
type EnvironmentSpec struct {
	Target   string            `json:"target,omitempty"`
	Selector map[string]string `json:"selector"`
	// ClusterLabel is the node label whose value names the cluster of a unit:
	// the units of the environment in one location. Empty: all are one cluster.
	ClusterLabel string   `json:"clusterLabel,omitempty"`
	Limits       Limits   `json:"limits,omitzero"`
	Windows      []Window `json:"windows,omitempty"`
}

// Limits bound what happens in an environment at the same time.
type Limits struct {
	// PromotionsPerCluster is how many promotions, of different deployments, may
	// change one cluster side by side. 0: no limit.
	PromotionsPerCluster int `json:"promotionsPerCluster,omitempty"`
}

// A Window is a recurring span of time: it opens when Opens fires (cron: minute,
// hour, day of month, month, day of week) in TimeZone (IANA name) and closes For
// later, in elapsed time. Effect is "allow" (the default) or "deny".
type Window struct {
	Name     string `json:"name"`
	Effect   string `json:"effect,omitempty"`
	Opens    string `json:"opens"`
	For      string `json:"for"`
	TimeZone string `json:"timeZone,omitempty"` // default UTC
}

// An Analysis says how it is judged whether a version does well.
type Analysis struct {
	Metadata Metadata     `json:"metadata"`
	Spec     AnalysisSpec `json:"spec"`
}

// An AnalysisSpec is the body of an [Analysis].
type AnalysisSpec struct {
	Stabilization Stabilization `json:"stabilization,omitzero"`
	// Metrics are compared between the changed units and the others. Default:
	// errors and latency as the nodes report them.
	Metrics []Metric `json:"metrics,omitempty"`
	// Alpha is the chance, per promotion, of taking back a version that is no
	// worse. It is spent over metrics and waves. Default 0.05.
	Alpha    float64 `json:"alpha,omitempty"`
	Interval string  `json:"interval,omitempty"` // between two looks; default 10s
	For      string  `json:"for,omitempty"`      // each wave is watched at least so long; default 5m
	Maximum  string  `json:"maximum,omitempty"`  // and at most so long until it is insufficient; default 30m
	// MinRequests is how many requests the changed units must have answered in a
	// wave before they can be called healthy. Default 100.
	MinRequests int64 `json:"minRequests,omitempty"`
	// Insufficient is what follows when there is no verdict in the maximum time:
	// "pause" (the default), "extend" (once more as long, then pause), "promote" or "rollback".
	Insufficient string `json:"insufficient,omitempty"`
}

// A Stabilization is when changed units count as stable: Checks polls in a row,
// Interval apart by the time of the samples, each within the given change of the
// one before (above the noise floor) and within the limits. Faster or smaller is
// not unstable. Percentages are written "10%".
type Stabilization struct {
	Interval string `json:"interval,omitempty"` // default 30s
	Checks   int    `json:"checks,omitempty"`   // default 3
	Minimum  string `json:"minimum,omitempty"`  // default 2m
	Maximum  string `json:"maximum,omitempty"`  // default 30m

	CPU     string `json:"cpu,omitempty"`     // change; default 10%
	Memory  string `json:"memory,omitempty"`  // change; default 10%
	Latency string `json:"latency,omitempty"` // change of the mean; default 15%

	CPULimit    string `json:"cpuLimit,omitempty"`    // of what the instance may use; default 80%
	MemoryLimit string `json:"memoryLimit,omitempty"` // default 80%

	Noise Noise `json:"noise,omitzero"`
}

// Noise is how large a change must be in itself to count: below it, a process
// that goes from 0.1 % to 0.2 % of a core is stable.
type Noise struct {
	CPU     string `json:"cpu,omitempty"`     // of one core; default 2%
	Memory  string `json:"memory,omitempty"`  // bytes; default 16Mi
	Latency string `json:"latency,omitempty"` // default 5ms
}

// The kinds of metric.
const (
	MetricErrors  = "errors"  // share of requests that fail
	MetricLatency = "latency" // distribution of answer times
)

// A Metric is one thing that is compared. Without Prometheus it is what the
// nodes report.
type Metric struct {
	Name       string     `json:"name"`
	Type       string     `json:"type"` // "errors" or "latency"
	Prometheus Prometheus `json:"prometheus,omitzero"`
}

// Prometheus says where a metric is read: Source is the name of a server that
// the installation knows, never an address. Requests and Failures are PromQL
// whose answer is one number that only rises (a counter); in them {{units}} is a regular
// expression that matches the names of the nodes asked about, {{version}}, {{deployment}}
// and {{environment}} are what they say. Type errors only.
type Prometheus struct {
	Source   string `json:"source,omitempty"`
	Requests string `json:"requests,omitempty"`
	Failures string `json:"failures,omitempty"`
}

// A Snapshot is the immutable freeze of an intent: what a release is made of.
// Configs holds the effective configuration of every environment that the
// pipeline's stages name. Environments are not frozen.
type Snapshot struct {
	Tenant     string            `json:"tenant"`
	Deployment string            `json:"deployment"`
	Module     Module            `json:"module"`
	Configs    map[string]Config `json:"configs"`
	Pipeline   Pipeline          `json:"pipeline"`
	// Analyses are those that the pipeline names, with their defaults.
	Analyses map[string]AnalysisSpec `json:"analyses,omitempty"`
	// Remove says that the intent was deleted: the release takes away what runs,
	// environment by environment, each when an operator agrees.
	Remove bool `json:"remove,omitempty"`
}
