package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// clockTicks is USER_HZ, which Linux fixes at 100 for everything in /proc.
const clockTicks = 100

var errStat = errors.New("unreadable /proc stat")

// A procStat is what proc_pid_stat(5) says about one process.
type procStat struct {
	Group  int
	Zombie bool
	Ticks  int64 // user and system time, reaped children included
	Start  int64 // ticks after boot: with the pid, a process's identity until reboot
	Pages  int64 // resident
}

func readStat(pid int) (procStat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(raw)
}

// parseStat reads the fields after the command, which may itself hold blanks and
// brackets: the last closing bracket ends it.
func parseStat(raw []byte) (procStat, error) {
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return procStat{}, errStat
	}
	fields := strings.Fields(string(raw[end+1:])) // fields[0] is field 3 of the manual
	if len(fields) < 22 {
		return procStat{}, errStat
	}
	var n [22]int64
	for _, i := range [...]int{5, 14, 15, 16, 17, 22, 24} { // numbers of the manual
		v, err := strconv.ParseInt(fields[i-3], 10, 64)
		if err != nil {
			return procStat{}, errStat
		}
		n[i-3] = v
	}
	return procStat{
		Group:  int(n[5-3]),
		Zombie: fields[0] == "Z" || fields[0] == "X",
		Ticks:  n[14-3] + n[15-3] + n[16-3] + n[17-3],
		Start:  n[22-3],
		Pages:  n[24-3],
	}, nil
}

// pids lists the processes of this machine.
func pids() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// A usage is what a process group has used: Ticks since its start, Memory now.
type usage struct {
	Ticks  int64
	Memory int64 // resident bytes; pages shared in the group count more than once
}

// groupUsage returns the usage of each of the groups, in one walk over /proc.
func groupUsage(groups map[int]bool) (map[int]usage, error) {
	all, err := pids()
	if err != nil {
		return nil, fmt.Errorf("read usage: %w", err)
	}
	out := map[int]usage{}
	for _, pid := range all {
		s, err := readStat(pid)
		if err != nil || !groups[s.Group] {
			continue // it has ended, or is somebody else's
		}
		u := out[s.Group]
		u.Ticks += s.Ticks
		u.Memory += s.Pages * int64(os.Getpagesize())
		out[s.Group] = u
	}
	return out, nil
}

// bootID changes with every boot of the machine, and with it the meaning of a pid.
func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}

// marked reports whether the process was started with a variable
// HOTSWAP_INSTANCE that begins with prefix, and returns its value.
func marked(pid int, prefix string) (string, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "", false
	}
	for entry := range bytes.SplitSeq(raw, []byte{0}) {
		if value, ok := strings.CutPrefix(string(entry), markerVariable+"="); ok {
			return value, strings.HasPrefix(value, prefix)
		}
	}
	return "", false
}
