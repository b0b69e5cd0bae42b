package intent_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

func TestADifferenceIsReadable(t *testing.T) {
	before := intent.Snapshot{
		Module: intent.Module{Name: "checkout", Version: "1.4.2", Digest: "sha256:aa"},
		Configs: map[string]intent.Config{
			"qa":         {Env: map[string]string{"LOG": "info"}, Drain: "10s"},
			"production": {Env: map[string]string{"LOG": "info", "CACHE": "64m"}, Drain: "10s"},
		},
		Pipeline: intent.Pipeline{Spec: intent.PipelineSpec{Stages: []intent.Stage{{Name: "qa", Environment: "qa", Strategy: intent.Strategy{Type: "direct"}}}}},
	}
	same := before
	require.Empty(t, intent.DiffSnapshots(before, same))

	after := before
	after.Configs = map[string]intent.Config{
		"qa":         {Env: map[string]string{"LOG": "info"}, Drain: "5s", Secrets: []intent.SecretRef{{Name: "DB_URL", From: "checkout/db"}}},
		"production": {Env: map[string]string{"LOG": "warn"}, Drain: "5s", Secrets: []intent.SecretRef{{Name: "DB_URL", From: "checkout/db"}}},
	}
	after.Pipeline.Spec.Stages = []intent.Stage{{Name: "qa", Environment: "qa", Strategy: intent.Strategy{Type: "rolling", MaxUnavailable: "25%"}}}
	var said []string
	for _, d := range intent.DiffSnapshots(before, after) {
		said = append(said, d.String())
	}
	require.Equal(t, []string{
		"drain: 10s → 5s",
		`pipeline.stages.qa.strategy: {"type":"direct"} → {"type":"rolling","maxUnavailable":"25%"}`,
		"secrets.DB_URL: + from checkout/db",
		`production: env.CACHE: - "64m"`,
		`production: env.LOG: "info" → "warn"`,
	}, said, "what differs everywhere is told once, and nothing is told that is the same")
}
