package lambda

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions"
)

const terraformFolder = "../../deploy/lambda/terraform"

// A row is what terraform/functions.tf.json says of a function.
type row struct {
	Memory      int      `json:"memory"`
	Timeout     int      `json:"timeout"`
	Exec        string   `json:"exec_timeout"`
	Read        string   `json:"read_timeout"`
	Write       string   `json:"write_timeout"`
	Schedule    bool     `json:"schedule"`
	Concurrency int      `json:"concurrency"`
	Secrets     []string `json:"secrets"`
	Optional    []string `json:"optional_secrets"`
}

func rows(t *testing.T) map[string]row {
	t.Helper()
	var file struct {
		Comment string `json:"//"`
		Locals  struct {
			Functions map[string]row `json:"functions"`
		} `json:"locals"`
	}
	d := json.NewDecoder(strings.NewReader(programText(t, filepath.Join(terraformFolder, "functions.tf.json"))))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&file))
	return file.Locals.Functions
}

func TestTerraformMakesTheFunctionsOfTheProgram(t *testing.T) {
	got := map[string]deployed{}
	for name, r := range rows(t) {
		got[name] = deployed{
			Handler: name, Exec: r.Exec, Read: r.Read, Write: r.Write, Timeout: r.Timeout, Memory: r.Memory, Scheduled: r.Schedule,
			Secrets: slices.Sorted(slices.Values(slices.Concat(r.Secrets, r.Optional))),
		}
	}
	require.Equal(t, program(t), got)
	for _, s := range functions.Specs() {
		require.Equal(t, s.Secrets, rows(t)[s.Name].Secrets, s.Name)
		require.Equal(t, s.Optional, rows(t)[s.Name].Optional, s.Name)
	}
}

func TestTheTemplateAndTerraformGiveTheSameConcurrencyAndEnvironment(t *testing.T) {
	s, globals := readStack(t, given())
	for _, name := range s.of("AWS::Serverless::Function") {
		p := at(s.resources[name], "Properties")
		handler, _ := at(p, "Handler").(string)
		require.Equal(t, rows(t)[handler].Concurrency, at(p, "ReservedConcurrentExecutions"), handler)
	}
	env, _ := at(globals, "Environment", "Variables").(map[string]any)
	text := programText(t, filepath.Join(terraformFolder, "functions.tf"))
	block := regexp.MustCompile(`(?s)variables = \{.*?\n    \}`).FindString(text)
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^ +(HOTSWAP_[A-Z_]+) += `).FindAllStringSubmatch(block, -1) {
		names = append(names, m[1])
	}
	want := []string{}
	for name := range env {
		want = append(want, name)
	}
	require.ElementsMatch(t, want, names)
}

// Terraform's text is in its one canonical form, so each of these can be written in one way.
func TestTerraformUsesEachColumnOfItsTable(t *testing.T) {
	text := ""
	for _, file := range []string{"functions.tf", "api.tf", "queue.tf"} {
		text += programText(t, filepath.Join(terraformFolder, file))
	}
	for _, line := range []string{
		`timeout = each.value.timeout`, `memory_size = each.value.memory`, `handler = each.key`, `runtime = "provided.al2023"`, `architectures = [var.architecture]`,
		`exec_timeout = each.value.exec_timeout`, `read_timeout = each.value.read_timeout`, `write_timeout = each.value.write_timeout`,
		`reserved_concurrent_executions = lookup(var.concurrency, each.key, each.value.concurrency)`,
		`for_each = { for name, f in local.functions : name => f if f.schedule }`, `schedule_expression = "rate(1 minute)"`,
		`Resource = flatten([for s in concat(each.value.secrets, each.value.optional_secrets) : ["${local.secrets}${s}", "${local.secrets}${s}-??????"]])`,
		`route_key = "POST /function/${each.key}"`, `route_key = "ANY /function/${each.key}/{proxy+}"`, `payload_format_version = "2.0"`,
		`HOTSWAP_HINT_URL = "${local.url}/function/{function}"`, `function_response_types = ["ReportBatchItemFailures"]`,
		`retention_in_days = var.log_retention_days`, `layers = [var.secrets_extension_arn, var.git_layer_arn]`,
	} {
		left, right, _ := strings.Cut(line, " = ")
		require.Regexp(t, `(?m)^ *`+regexp.QuoteMeta(left)+` += `+regexp.QuoteMeta(right)+`( #.*)?$`, text, "%s", line)
	}
	require.Equal(t, 1, strings.Count(text, "secretsmanager:GetSecretValue"))
}

func TestTerraformIsWellFormedAndInItsCanonicalForm(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not installed")
	}
	out, err := exec.CommandContext(t.Context(), terraform, "fmt", "-check", "-diff", "-no-color", terraformFolder).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
