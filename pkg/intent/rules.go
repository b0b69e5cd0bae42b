package intent

// The rules. Their ids are stable: scripts and editors match on them.
const (
	RuleAlias              = "alias"
	RuleBadCharacter       = "bad-character"
	RuleBadPath            = "bad-path"
	RuleBadValue           = "bad-value"
	RuleDuplicateKey       = "duplicate-key"
	RuleDuplicateName      = "duplicate-name"
	RuleEmpty              = "empty"
	RuleEnvironmentTwice   = "environment-twice"
	RuleFieldOfStrategy    = "field-of-strategy"
	RuleMissingField       = "missing-field"
	RuleNeedsCycle         = "needs-cycle"
	RuleNoCanary           = "no-canary"
	RuleUnknownPolicy      = "unknown-policy"
	RuleNotUTF8            = "not-utf8"
	RuleReservedVariable   = "reserved-variable"
	RuleSeveralDocuments   = "several-documents"
	RuleSyntax             = "syntax"
	RuleTag                = "tag"
	RuleTooDeep            = "too-deep"
	RuleTooLarge           = "too-large"
	RuleTooMany            = "too-many"
	RuleUnknownAnalysis    = "unknown-analysis"
	RuleUnknownEnvironment = "unknown-environment"
	RuleUnknownField       = "unknown-field"
	RuleUnknownKind        = "unknown-kind"
	RuleUnknownPipeline    = "unknown-pipeline"
	RuleUnknownStage       = "unknown-stage"
	RuleUnknownWindow      = "unknown-window"
	RuleWrongFolder        = "wrong-folder"
	RuleWrongName          = "wrong-name"
	RuleWrongTenant        = "wrong-tenant"
	RuleWrongType          = "wrong-type"
)

// A Rule is one thing that is checked.
type Rule struct {
	ID       string
	Severity Severity
	Summary  string // what is refused
	Why      string // and for what reason
}

// Rules returns every rule, ordered by id. docs/reference/rules.md is made from it.
func Rules() []Rule {
	return []Rule{
		{RuleAlias, Error, "An anchor (`&x`), an alias (`*x`) or a merge key (`<<`).", "What a reviewer reads must be what is deployed; aliases can also grow without bound."},
		{RuleBadCharacter, Error, "A character that changes how the file looks: text direction marks, exotic line ends, a byte order mark inside.", "A reviewer would see something else than what is deployed."},
		{RuleBadPath, Error, "A file name that is not a DNS label with `.yaml` or `.yml`.", "The file's name is the document's name."},
		{RuleBadValue, Error, "A value that its field does not allow.", "The field's form stands in `hotswap explain`."},
		{RuleDuplicateKey, Error, "The same key twice in one mapping.", "Parsers disagree on which one counts."},
		{RuleDuplicateName, Error, "Two documents of one kind, or two stages of one pipeline, with the same name.", "A name must mean one thing."},
		{RuleEmpty, Error, "A file without a document.", "A deployment is not removed by emptying its file."},
		{RuleEnvironmentTwice, Error, "Two stages of one pipeline that deploy to the same environment.", "An environment belongs to one stage, so that it is clear what runs there."},
		{RuleFieldOfStrategy, Error, "A field of a strategy that its type does not have, such as `waves` of `rolling`, or lacks one that it needs.", "It would be ignored, and somebody would count on it."},
		{RuleMissingField, Error, "A required field is not there.", "There is no safe value to assume."},
		{RuleNeedsCycle, Error, "Stages that wait for each other.", "None of them would ever start."},
		{RuleNoCanary, Warning, "A canary whose first wave is every unit.", "There is nothing to compare it with but its own past, and every user meets it at once."},
		{RuleNotUTF8, Error, "A file that is not UTF-8.", "Other encodings read differently in different places."},
		{RuleReservedVariable, Error, "A variable named `PORT`, `CREDENTIALS_DIRECTORY` or `HOTSWAP_…`.", "The node tells the module with them where to listen; it would refuse the order."},
		{RuleSeveralDocuments, Error, "More than one document in a file.", "The file's name is the document's name."},
		{RuleSyntax, Error, "A file that is not YAML.", "It cannot be read."},
		{RuleTag, Error, "A YAML tag (`!x`, `!!binary`).", "Tags change what a value means."},
		{RuleTooDeep, Error, "Nesting deeper than 16 levels.", "No kind needs it."},
		{RuleTooLarge, Error, "A file over 256 KiB or 10000 values, or a tree over 16 MiB.", "Validation must stay quick for everyone."},
		{RuleTooMany, Error, "More than 2000 files.", "Validation must stay quick for everyone."},
		{RuleUnknownAnalysis, Error, "An analysis that has no file in `analyses/` and is not built in.", "Nothing would say whether the version does well."},
		{RuleUnknownEnvironment, Error, "An environment that has no file in `environments/`, or an override for one that the pipeline has not.", "It would be ignored, or wait for ever."},
		{RuleUnknownField, Error, "A field that the kind has not.", "A key that is accepted and ignored would be a lie."},
		{RuleUnknownKind, Error, "A `kind` that this version does not read.", "It would be ignored."},
		{RuleUnknownPipeline, Error, "A pipeline that has no file in `pipelines/` and is not built in.", "The deployment would go nowhere."},
		{RuleUnknownPolicy, Error, "A policy in `gates.approval` that has no file in `policies/`.", "Nobody could open the gate."},
		{RuleUnknownStage, Error, "A stage in `needs` that the pipeline has not.", "The stage would wait for ever."},
		{RuleUnknownWindow, Error, "A window in `gates` that the stage's environment has not.", "The stage would wait for ever."},
		{RuleWrongFolder, Error, "A document that is not directly in the folder of its kind.", "`deployments/`, `pipelines/`, `environments/`, `analyses/` and `policies/` may be protected differently."},
		{RuleWrongName, Error, "A `metadata.name` that is not the file's base name.", "A reviewer finds a document by its file."},
		{RuleWrongTenant, Error, "A `metadata.tenant` that is not the repository's.", "A repository speaks for one tenant."},
		{RuleWrongType, Error, "A value of another type than the field's, such as an unquoted version `1.5`.", "YAML would read `1.10` and `1.1` as the same number."},
	}
}
