// Package swap proves that no request fails because of a swap, of an agent's
// restart or of an agent's upgrade: real agents, a real module in two versions and
// a load generator, each a process of its own.
package swap

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"hotswap.dev/hotswap/pkg/node"
	"hotswap.dev/hotswap/tests/load/constant"
)

// roleVariable makes this test binary play another role: the agent or the load.
const roleVariable = "HOTSWAP_TEST_ROLE"

// settings are what an agent in the role is started with.
type settings struct {
	Server, State, TokenFile, Files string
	Trusted                         []byte
	Takeover                        bool
}

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "agent":
		os.Exit(playAgent(os.Args[1]))
	case "load":
		os.Exit(playLoad(os.Args[1:]))
	case "reverse":
		os.Exit(playReverse(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

func playAgent(text string) int {
	var s settings
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		log.Error("settings", "error", err)
		return 2
	}
	agent, err := node.New(node.Options{
		Server: s.Server, Name: "node-1", State: s.State, TokenFile: s.TokenFile, FileArtifacts: s.Files,
		Trusted: []ed25519.PublicKey{s.Trusted}, Takeover: s.Takeover, Log: log,
		ReportInterval: 100 * time.Millisecond, PollWait: 5 * time.Second,
	})
	if err != nil {
		log.Error("options", "error", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := agent.Run(ctx); err != nil {
		log.Error("agent", "error", err)
		return 1
	}
	return 0
}

func playLoad(urls []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	result, err := constant.Run(ctx, constant.Options{URLs: urls, Workers: 6, Rate: 600})
	if err != nil {
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		return 1
	}
	return 0
}
