package lambda

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions"
)

// given are the parameters that have no default.
func given() map[string]any {
	return map[string]any{
		"CodeBucket": "zips", "CodeFolder": "1.0.0", "GiteaUrl": "https://git.example.com", "GiteaRepository": "acme/deploy",
		"SecretsExtensionArn": "arn:aws:lambda:eu-west-1:015030872274:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:12",
		"GitLayerArn":         "arn:aws:lambda:eu-west-1:123456789012:layer:git:1",
	}
}

// everything are the parameters with which each resource is made.
func everything() map[string]any {
	p := given()
	p["WebhookQueue"], p["SubnetIds"], p["SecurityGroupIds"], p["Architecture"] = "true", "subnet-1,subnet-2", "sg-1", "x86_64"
	return p
}

// A deployed function is what a template or a configuration of Terraform makes of one.
type deployed struct {
	Handler, Exec, Read, Write string
	Timeout, Memory            int
	Scheduled                  bool
	Secrets                    []string // that it may read
}

// wanted is what the program says of a function.
func wanted(t *testing.T, s functions.Spec) deployed {
	t.Helper()
	var memory int
	_, err := fmt.Sscanf(s.Memory, "%dMi", &memory)
	require.NoError(t, err)
	return deployed{
		Handler: s.Name, Exec: s.Timeouts.Exec.String(), Read: s.Timeouts.Read.String(), Write: s.Timeouts.Write.String(),
		Timeout: int(math.Ceil(s.Timeouts.Write.Seconds())), Memory: memory, Scheduled: s.Cron,
		Secrets: slices.Sorted(slices.Values(slices.Concat(s.Secrets, s.Optional))),
	}
}

// program is what the program says of all functions, by name.
func program(t *testing.T) map[string]deployed {
	t.Helper()
	out := map[string]deployed{}
	for _, s := range functions.Specs() {
		out[s.Name] = wanted(t, s)
	}
	return out
}

// functionsOf reads the functions of a stack, by their handler.
func (s stack) functionsOf(t *testing.T) map[string]deployed {
	t.Helper()
	out := map[string]deployed{}
	for _, name := range s.of("AWS::Serverless::Function") {
		p := at(s.resources[name], "Properties")
		env := at(p, "Environment", "Variables")
		timeout, _ := at(p, "Timeout").(int)
		memory, _ := at(p, "MemorySize").(int)
		d := deployed{
			Handler: fmt.Sprint(at(p, "Handler")), Exec: fmt.Sprint(at(env, "exec_timeout")), Read: fmt.Sprint(at(env, "read_timeout")), Write: fmt.Sprint(at(env, "write_timeout")),
			Timeout: timeout, Memory: memory, Secrets: readable(t, p),
		}
		if at(p, "Events") != nil {
			require.Equal(t, map[string]any{"Look": map[string]any{"Type": "Schedule", "Properties": map[string]any{"Schedule": "rate(1 minute)"}}}, at(p, "Events"), name)
			require.Equal(t, 0, at(p, "EventInvokeConfig", "MaximumRetryAttempts"), name)
			require.NotContains(t, s.resources, name+"Look", "what SAM calls the rule that it makes")
			d.Scheduled = true
		}
		out[d.Handler] = d
	}
	return out
}

// readable are the secrets that a function's policy lets it read, each by both of its
// names and nothing else.
func readable(t *testing.T, properties any) []string {
	t.Helper()
	const prefix = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hotswap/"
	var out []string
	policies, _ := at(properties, "Policies").([]any)
	require.Len(t, policies, 1)
	statements, _ := at(policies[0], "Statement").([]any)
	require.Equal(t, "secretsmanager:GetSecretValue", at(statements[0], "Action"))
	resources, _ := at(statements[0], "Resource").([]any)
	for i := 0; i < len(resources); i += 2 {
		name, ok := strings.CutPrefix(fmt.Sprint(resources[i]), prefix)
		require.True(t, ok, resources[i])
		require.Equal(t, prefix+name+"-??????", resources[i+1])
		out = append(out, name)
	}
	for _, more := range statements[1:] {
		require.Equal(t, "forge-webhook", at(properties, "Handler"), "a statement beyond the secrets")
		require.Equal(t, []any{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}, at(more, "Action"))
		require.Equal(t, "arn:Webhooks.Arn", at(more, "Resource"))
	}
	slices.Sort(out)
	return out
}

func TestTheTemplateMakesTheFunctionsOfTheProgram(t *testing.T) {
	for name, parameters := range map[string]map[string]any{"by default": given(), "with everything": everything()} {
		t.Run(name, func(t *testing.T) {
			s, globals := readStack(t, parameters)
			require.Equal(t, program(t), s.functionsOf(t))
			require.Equal(t, "provided.al2023", at(globals, "Runtime"))
			require.Equal(t, []any{parameters["SecretsExtensionArn"], parameters["GitLayerArn"]}, at(globals, "Layers"))
		})
	}
}

func TestEveryFunctionIsReachedByItsRoutesAndWritesItsOwnLog(t *testing.T) {
	s, _ := readStack(t, given())
	var routes, want []string
	for _, name := range s.of("AWS::ApiGatewayV2::Route") {
		p := at(s.resources[name], "Properties")
		integration := strings.TrimPrefix(fmt.Sprint(at(p, "Target")), "integrations/")
		to := at(s.resources[integration], "Properties")
		require.Equal(t, "2.0", at(to, "PayloadFormatVersion"))
		function := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(at(to, "IntegrationUri")), "arn:"), ".Arn")
		routes = append(routes, fmt.Sprint(at(p, "RouteKey"), " → ", at(s.resources[function], "Properties", "Handler")))
	}
	var logs, wantLogs []string
	for _, name := range s.of("AWS::Logs::LogGroup") {
		logs = append(logs, fmt.Sprint(at(s.resources[name], "Properties", "LogGroupName")))
		require.Equal(t, 30, at(s.resources[name], "Properties", "RetentionInDays"))
	}
	var allowed, wantAllowed []string
	for _, name := range s.of("AWS::Lambda::Permission") {
		p := at(s.resources[name], "Properties")
		allowed = append(allowed, fmt.Sprint(at(s.resources[fmt.Sprint(at(p, "FunctionName"))], "Properties", "Handler"), " by ", at(p, "SourceArn")))
	}
	for _, f := range functions.Specs() {
		want = append(want, fmt.Sprintf("POST /function/%s → %s", f.Name, f.Name), fmt.Sprintf("ANY /function/%s/{proxy+} → %s", f.Name, f.Name))
		wantLogs = append(wantLogs, "/aws/lambda/hotswap-"+f.Name)
		wantAllowed = append(wantAllowed, f.Name+" by arn:aws:execute-api:eu-west-1:123456789012:Gateway/*/*/function/"+f.Name+"*")
	}
	require.ElementsMatch(t, want, routes)
	require.ElementsMatch(t, wantLogs, logs)
	require.ElementsMatch(t, wantAllowed, allowed)
}

// The environment holds what cmd/hotswap reads, and no variable that it does not know.
func TestTheEnvironmentOfTheFunctionsIsWhatTheProgramReads(t *testing.T) {
	s, globals := readStack(t, given())
	env, _ := at(globals, "Environment", "Variables").(map[string]any)
	require.Equal(t, "https://Gateway.execute-api.eu-west-1.amazonaws.com/function/{function}", env["HOTSWAP_HINT_URL"])
	require.Equal(t, "https://Gateway.execute-api.eu-west-1.amazonaws.com", env["HOTSWAP_URL"])
	require.Equal(t, at(s.outputs, "Url", "Value"), env["HOTSWAP_URL"])
	require.Equal(t, "hotswap/", env["HOTSWAP_SECRET_PREFIX"])
	code := programText(t, "../../cmd/hotswap/function.go") + programText(t, "../../pkg/function/credentials.go") + programText(t, "../../pkg/function/host.go")
	for name := range env {
		require.Contains(t, code, `"`+name+`"`)
	}
	for _, m := range regexp.MustCompile(`getenv\("(HOTSWAP_[A-Z_]+)"\)`).FindAllStringSubmatch(code, -1) {
		switch m[1] {
		case "HOTSWAP_FUNCTION": // the handler names the function
		case "HOTSWAP_REPOSITORY", "HOTSWAP_DATA": // of the built-in forge, which is on one machine
		case "HOTSWAP_STATE": // a folder for temporary files is what Lambda has
		case "HOTSWAP_LAMBDA_STREAM": // for Function URLs; these functions are behind API Gateway
		default:
			require.Contains(t, env, m[1])
		}
	}
}

func programText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestAQueueTakesWebhooksOnlyWhereItIsAskedFor(t *testing.T) {
	s, _ := readStack(t, given())
	require.Empty(t, s.of("AWS::SQS::Queue"))
	require.Empty(t, s.of("AWS::Lambda::EventSourceMapping"))

	s, _ = readStack(t, everything())
	require.Equal(t, []string{"Webhooks", "WebhooksDead"}, s.of("AWS::SQS::Queue"))
	queue := at(s.resources["Webhooks"], "Properties")
	require.Equal(t, "arn:WebhooksDead.Arn", at(queue, "RedrivePolicy", "deadLetterTargetArn"))
	webhook, _ := functions.Find("forge-webhook")
	require.Equal(t, 6*wanted(t, webhook).Timeout, at(queue, "VisibilityTimeout"))
	taken := at(s.resources["WebhooksTaken"], "Properties")
	require.Equal(t, []any{"ReportBatchItemFailures"}, at(taken, "FunctionResponseTypes"))
	require.Equal(t, "ForgeWebhook", at(taken, "FunctionName"))
	require.Equal(t, "POST /function/forge-webhook/{tenant}/{repository}", at(s.resources["WebhooksRoute"], "Properties", "RouteKey"))
	attributes := map[string]map[string]string{}
	require.NoError(t, json.Unmarshal([]byte(fmt.Sprint(at(s.resources["WebhooksIntegration"], "Properties", "RequestParameters", "MessageAttributes"))), &attributes))
	require.LessOrEqual(t, len(attributes), 10, "SQS takes ten")
	for name, a := range attributes {
		want := "${request.header." + strings.ToLower(name) + "}"
		if name == "Path" {
			want = "${request.path}"
		}
		require.Equal(t, map[string]string{"DataType": "String", "StringValue": want}, a)
	}
}

// schema checks a stack against the published schema.
func schema(t *testing.T, s stack) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "sam")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", bin, ".")
	build.Dir = "../tools/sam"
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := json.Marshal(map[string]any{"Resources": s.resources})
	require.NoError(t, err)
	check := exec.CommandContext(t.Context(), bin)
	check.Stdin = strings.NewReader(string(text))
	out, err = check.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// whole puts the globals where SAM puts them.
func whole(s stack, globals map[string]any) stack {
	for _, name := range s.of("AWS::Serverless::Function") {
		p, _ := at(s.resources[name], "Properties").(map[string]any)
		for key, v := range globals {
			if key != "Environment" {
				p[key] = v
			}
		}
	}
	return s
}

func TestTheTemplateIsOfThePublishedSchema(t *testing.T) {
	require.Empty(t, schema(t, whole(readStack(t, everything()))))
	text := programText(t, templateFile)
	bad := strings.NewReplacer("MemorySize: 512", "MemorySise: 512", "BatchSize: 10", "BatchSize: ten", "AWS::Logs::LogGroup", "AWS::Logs::Group").Replace(text)
	said := schema(t, whole(resolved(t, []byte(bad), everything())))
	for _, want := range []string{"MemorySise", "BatchSize", `no type "AWS::Logs::Group"`} {
		require.Contains(t, said, want, "what is wrong must be found")
	}
}

// No file that is deployed holds a secret, or a place for one.
func TestNoSecretIsInAnyFileThatIsDeployed(t *testing.T) {
	files, err := filepath.Glob("../../deploy/lambda/*")
	require.NoError(t, err)
	more, err := filepath.Glob("../../deploy/lambda/terraform/*")
	require.NoError(t, err)
	checked := 0
	for _, path := range append(files, more...) {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		checked++
		text := programText(t, path)
		require.NotRegexp(t, `(?i)postgres(ql)?://|password|[0-9a-f]{64}|AKIA[0-9A-Z]{16}|NoEcho|SecretString`, text, path)
	}
	require.Greater(t, checked, 6)
}
