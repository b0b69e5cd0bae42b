package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// errOrder is wrapped by every reason for which an order is not obeyed at all.
var errOrder = errors.New("order refused")

const (
	longestConfig   = time.Hour // no duration of a configuration is longer
	longestKeep     = 30 * 24 * time.Hour
	maxConfigValues = 1000      // arguments, and variables
	maxConfigBytes  = 128 << 10 // of all arguments and variables; the kernel allows more
)

// decodeWanted reads the answer to a wanted request. It checks the form only:
// each order still has to pass [checkOrder].
func decodeWanted(body []byte) (target.Wanted, error) {
	var w target.Wanted
	if err := json.Unmarshal(body, &w); err != nil {
		return target.Wanted{}, fmt.Errorf("decode wanted: %w", err)
	}
	return w, nil
}

// checkOrder refuses what must never reach a path, a command line or a
// listener. A refused order changes nothing that runs.
func checkOrder(o target.Order) error {
	if err := checkPlace(o.Place); err != nil {
		return err
	}
	if err := checkPosition(o.Position); err != nil {
		return err
	}
	if o.KeepFor < 0 || o.KeepFor > longestKeep {
		return fmt.Errorf("%w: keepFor is negative or longer than %s", errOrder, longestKeep)
	}
	if o.Smoke != nil && (!strings.HasPrefix(o.Smoke.Path, "/") || hasControl(o.Smoke.Path)) {
		return fmt.Errorf("%w: the smoke test's path does not begin with a slash", errOrder)
	}
	for role, i := range map[string]*target.Instance{"active": o.Active, "standby": o.Standby} {
		if i == nil {
			continue
		}
		if err := checkInstance(*i); err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
	}
	return nil
}

func checkPosition(p target.Position) error {
	if p.Epoch < 0 || p.Token < 0 || p.Generation < 0 {
		return fmt.Errorf("%w: its position is negative", errOrder)
	}
	return nil
}

func checkPlace(p target.Place) error {
	if !dnsLabel(p.Environment) || !dnsLabel(p.Deployment) {
		return fmt.Errorf("%w: environment and deployment must be DNS labels", errOrder)
	}
	return nil
}

func checkInstance(i target.Instance) error {
	switch {
	case !sha256Digest(i.Digest):
		return fmt.Errorf("%w: its digest is not sha256 and 64 hex digits", errOrder)
	case !dnsLabel(i.Module.Name):
		return fmt.Errorf("%w: the module's name is not a DNS label", errOrder)
	case i.Module.Version == "" || len(i.Module.Version) > 128 || hasControl(i.Module.Version):
		return fmt.Errorf("%w: the module's version is empty, too long or not text", errOrder)
	case !sha256Digest(i.Module.Digest):
		return fmt.Errorf("%w: the module's digest is not sha256 and 64 hex digits", errOrder)
	case i.Module.Size < 0:
		return fmt.Errorf("%w: the module's size is negative", errOrder)
	}
	return checkConfig(i.Config)
}

func checkConfig(c target.Config) error {
	for name, d := range map[string]time.Duration{
		"interval": c.Interval, "timeout": c.Timeout, "startWithin": c.StartWithin, "drain": c.Drain,
	} {
		if d < 0 || d > longestConfig {
			return fmt.Errorf("%w: %s is negative or longer than %s", errOrder, name, longestConfig)
		}
	}
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("%w: port %d does not exist", errOrder, c.Port)
	}
	if c.HealthPath != "" && (!strings.HasPrefix(c.HealthPath, "/") || hasControl(c.HealthPath)) {
		return fmt.Errorf("%w: the health path does not begin with a slash", errOrder)
	}
	for _, ref := range c.Secrets {
		if !envName(ref.Name) || len(ref.Name) > 64 {
			return fmt.Errorf("%w: %.70q cannot be the name of a secret's file", errOrder, ref.Name)
		}
	}
	if len(c.Secrets) > maxConfigValues || c.Memory < 0 || !(c.CPU >= 0) {
		return fmt.Errorf("%w: too many secrets, or resources below zero", errOrder)
	}
	return checkCommandLine(c)
}

func checkCommandLine(c target.Config) error {
	size := 0
	for _, arg := range c.Args {
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("%w: an argument holds a zero byte", errOrder)
		}
		size += len(arg)
	}
	for name, value := range c.Env {
		if !envName(name) || strings.ContainsRune(value, 0) {
			return fmt.Errorf("%w: %q cannot be an environment variable", errOrder, name)
		}
		size += len(name) + len(value)
	}
	if len(c.Args) > maxConfigValues || len(c.Env) > maxConfigValues || size > maxConfigBytes {
		return fmt.Errorf("%w: too many or too long arguments or variables", errOrder)
	}
	return nil
}

// dnsLabel is RFC 1123: lower-case letters, digits and inner hyphens, at most 63.
func dnsLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func sha256Digest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// envName also refuses the names that the agent sets itself.
func envName(s string) bool {
	if s == "" || s == "PORT" || s == "CREDENTIALS_DIRECTORY" || strings.HasPrefix(s, "HOTSWAP_") || (s[0] >= '0' && s[0] <= '9') {
		return false
	}
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}
