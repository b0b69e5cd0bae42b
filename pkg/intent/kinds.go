package intent

// APIVersion is the only version of the declarative kinds that this build reads.
const APIVersion = "hotswap.dev/v1"

// The kinds, as they stand in a document's `kind`.
const (
	KindDeployment  = "Deployment"
	KindPipeline    = "Pipeline"
	KindEnvironment = "Environment"
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
// Env merges key by key, the scalar fields replace when they are set.
type Override struct {
	Config Config `json:"config,omitzero"`
}

// A Pipeline is a graph of stages.
type Pipeline struct {
	Metadata Metadata     `json:"metadata"`
	Spec     PipelineSpec `json:"spec"`
}

// A PipelineSpec is the body of a [Pipeline]. Concurrency is "supersede".
type PipelineSpec struct {
	Concurrency string  `json:"concurrency,omitempty"`
	Stages      []Stage `json:"stages"`
}

// A Stage is a node of the pipeline: an environment, a strategy and what must
// have succeeded before. An environment belongs to one stage of a pipeline.
type Stage struct {
	Name        string    `json:"name"`
	Needs       []string  `json:"needs,omitempty"`
	Environment string    `json:"environment"`
	Strategy    Strategy  `json:"strategy"`
	OnFailure   OnFailure `json:"onFailure,omitzero"`
}

// A Strategy says how the units of a stage are changed. Type is "direct":
// prepare all units, then activate all. HealthyFor is how long every unit must
// be seen healthy after the switch; Deadline bounds each phase.
type Strategy struct {
	Type       string `json:"type"`
	HealthyFor string `json:"healthyFor,omitempty"`
	Deadline   string `json:"deadline,omitempty"`
}

// OnFailure says what follows when a unit fails after the switch began: Action
// is "rollback" (the default) or "fail" (leave the units as they are).
type OnFailure struct {
	Action string `json:"action,omitempty"`
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
}
