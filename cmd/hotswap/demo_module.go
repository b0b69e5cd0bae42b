package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// The demo's versions: what runs first, what is pushed, and one with a bug that
// shows only under production's configuration.
const (
	oldVersion    = "1.4.2"
	newVersion    = "1.5.0"
	brokenVersion = "1.6.0"
)

// A demoModule is one version of the sample module, packed and signed.
type demoModule struct {
	version, url, digest, signature string
	size                            int64
}

// buildTime bounds building one version of the sample module.
const buildTime = 5 * time.Minute

// buildModules builds both versions from the sources, packs them and signs them
// with a key of the demo's own.
func (d *demo) buildModules(ctx context.Context) error {
	began := time.Now()
	if err := os.MkdirAll(d.path("artifacts"), 0o755); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if _, err := os.Stat(d.path("release.key")); errors.Is(err, os.ErrNotExist) {
		if err := makeKeys(d.path("release")); err != nil {
			return err
		}
	}
	d.parts.modules = map[string]demoModule{}
	versions := []string{oldVersion, newVersion}
	if d.broken {
		versions = append(versions, brokenVersion)
	}
	for _, v := range versions {
		m, err := d.buildModule(ctx, v)
		if err != nil {
			return err
		}
		d.parts.modules[v] = m
	}
	d.component("module", "checkout "+strings.Join(versions, ", ")+": built, packed and signed", "in "+since(began))
	return nil
}

func (d *demo) buildModule(ctx context.Context, version string) (demoModule, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	binary := d.path("build", version, "checkout")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version+bugOf(version), "-o", binary, "./"+filepath.Join(d.sources, "checkout"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return demoModule{}, fmt.Errorf("build checkout %s: %w\n%s", version, err, out)
	}
	archive := d.path("artifacts", "checkout-"+version+".tar.gz")
	packed, err := packModule(binary, "checkout", archive)
	if err != nil {
		return demoModule{}, err
	}
	signature, err := signModule(d.path("release.key"), target.Module{Name: "checkout", Version: version, Digest: packed.Digest})
	if err != nil {
		return demoModule{}, err
	}
	return demoModule{version: version, url: "file://" + archive, digest: packed.Digest, signature: signature, size: packed.Size}, nil
}

// bugOf is the linker's flag that gives a version its bug.
func bugOf(version string) string {
	if version == brokenVersion {
		return " -X main.bug=rounding"
	}
	return ""
}

// intent is the deployment as a person would write it.
func (m demoModule) intent(pipeline string) string {
	return strings.Join([]string{
		"apiVersion: hotswap.dev/v1",
		"kind: Deployment",
		"metadata: {name: " + demoDeployment + ", tenant: " + demoTenant + "}",
		"spec:",
		"  module:",
		"    name: checkout",
		`    version: "` + m.version + `"`,
		"    artifact: " + m.url,
		"    digest: " + m.digest,
		"    signature: " + m.signature,
		fmt.Sprintf("    size: %d", m.size),
		"  config:",
		"    health: {path: /healthz, interval: 200ms, startWithin: 20s}",
		"    drain: 5s",
		"  environments:",
		"    production: {config: {env: {PRICE_ROUNDING: bankers}}}",
		"  pipeline: " + pipeline,
		"",
	}, "\n")
}
