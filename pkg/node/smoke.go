package node

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// askSmoke sets what is asked of i while it is a healthy standby; nil: nothing.
func (i *instance) askSmoke(s *target.Smoke) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s == nil || i.asks == nil || *s != *i.asks {
		i.smoke = nil
	}
	i.asks = s
}

// forgetSmoke begins anew with another process.
func (i *instance) forgetSmoke() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.smoke = nil
}

// smokeTest asks once, if a smoke test is asked for, and counts. The first answer,
// and every failure, is told at once.
func (i *instance) smokeTest(ctx context.Context, address string) {
	i.mu.Lock()
	asks := i.asks
	i.mu.Unlock()
	if asks == nil {
		return
	}
	err := i.get(ctx, address, asks.Path)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	i.mu.Lock()
	if i.asks == nil || *i.asks != *asks {
		i.mu.Unlock()
		return
	}
	news := i.smoke == nil || err != nil
	if i.smoke == nil {
		i.smoke = &target.SmokeReport{Path: asks.Path, Since: now}
	}
	i.smoke.Last = now
	if err == nil {
		i.smoke.Passed++
	} else {
		i.smoke.Failed++
		i.smoke.Detail = oneSentence(err.Error())
	}
	i.mu.Unlock()
	if news {
		i.changed()
	}
}

// machineMemory is the memory of this machine in bytes, 0 if it cannot be told.
var machineMemory = sync.OnceValue(func() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
})

// limits are what an instance may use: what it declares, or the machine.
func (m *machine) limits(c target.Config) (cpu float64, memory int64) {
	cpu, memory = c.CPU, c.Memory
	if cpu == 0 {
		cpu = 100 * float64(runtime.NumCPU())
	}
	if memory == 0 {
		memory = machineMemory()
	}
	return cpu, memory
}
