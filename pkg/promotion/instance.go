package promotion

import (
	"fmt"

	"hotswap.dev/hotswap/pkg/canonical"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// instanceDomain separates instance digests, see pkg/canonical.
const instanceDomain = "hotswap.dev/instance/v1"

// NewInstance returns what every unit of an environment runs under the frozen
// intent s. Its digest covers what decides how the program behaves: its bytes
// and its configuration, and neither the release nor where the bytes come from.
func NewInstance(s intent.Snapshot, release, environment string) (target.Instance, error) {
	c, ok := s.Configs[environment]
	if !ok {
		return target.Instance{}, fmt.Errorf("instance of %s: no configuration for environment %s", s.Deployment, environment)
	}
	in := target.Instance{
		Release: release,
		Module: target.Module{
			Name: s.Module.Name, Version: s.Module.Version, Artifact: s.Module.Artifact,
			Digest: s.Module.Digest, Signature: s.Module.Signature, Size: s.Module.Size,
		},
		Config: target.Config{
			Args: c.Args, Env: c.Env, HealthPath: c.Health.Path,
			Interval: intent.Duration(c.Health.Interval), Timeout: intent.Duration(c.Health.Timeout),
			StartWithin: intent.Duration(c.Health.StartWithin), Port: c.Port, Drain: intent.Duration(c.Drain),
			Memory: intent.Bytes(c.Resources.Memory), CPU: intent.CPU(c.Resources.CPU),
		},
	}
	for _, ref := range c.Secrets {
		in.Config.Secrets = append(in.Config.Secrets, target.SecretRef(ref))
	}
	digest, err := canonical.Digest(instanceDomain, struct {
		Name    string        `json:"name"`
		Version string        `json:"version"`
		Digest  string        `json:"digest"`
		Config  target.Config `json:"config"`
	}{in.Module.Name, in.Module.Version, in.Module.Digest, in.Config})
	if err != nil {
		return target.Instance{}, fmt.Errorf("instance of %s: %w", s.Deployment, err)
	}
	in.Digest = digest
	return in, nil
}
