package platform

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

// installPostgres is what somebody without PostgreSQL should type.
const installPostgres = "apt-get install -y postgresql"

// identity is the user that owns and runs the cluster.
type identity struct {
	credential *syscall.Credential // nil: the user we are
	uid, gid   int
	name       string
}

// findBinDir returns the folder of initdb and postgres: the one asked for, or the one whose major version wrote the
// data, or else the newest.
func findBinDir(asked, data string) (string, error) {
	wrote := ""
	if b, err := os.ReadFile(filepath.Join(data, "PG_VERSION")); err == nil {
		wrote = strings.TrimSpace(string(b))
	}
	if asked != "" {
		if missing := missingPrograms(asked); missing != "" {
			return "", fmt.Errorf("%w: no %s in %s", ErrPostgresMissing, missing, asked)
		}
		return filepath.Abs(asked)
	}
	return pickBinDir(installedBinDirs("/usr/lib/postgresql"), wrote)
}

// pickBinDir takes the first of dirs (newest first) that fits the major version of the data, "" fitting all.
func pickBinDir(dirs []string, wrote string) (string, error) {
	if len(dirs) == 0 {
		return "", fmt.Errorf("%w: install them with: %s", ErrPostgresMissing, installPostgres)
	}
	for _, dir := range dirs {
		if wrote == "" || filepath.Base(filepath.Dir(dir)) == wrote {
			return dir, nil
		}
	}
	if major := filepath.Base(filepath.Dir(dirs[0])); !isMajor(major) {
		return dirs[0], nil // PATH's: its version is not in its name; the server itself refuses a wrong one
	}
	return "", fmt.Errorf("%w: it was written by version %s; install that with: %s-%s", ErrClusterVersion, wrote, installPostgres, wrote)
}

// installedBinDirs lists Debian's layout, newest first, and then PATH's.
func installedBinDirs(root string) []string {
	found, _ := filepath.Glob(filepath.Join(root, "*", "bin"))
	major := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	sort.Slice(found, func(i, j int) bool { return major(found[i]) > major(found[j]) })
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(initdb); err == nil {
			found = append(found, filepath.Dir(real))
		}
	}
	whole := found[:0]
	for _, dir := range found {
		if missingPrograms(dir) == "" {
			whole = append(whole, dir)
		}
	}
	return whole
}

func isMajor(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0
}

func missingPrograms(dir string) string {
	for _, program := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, program)); err != nil || info.IsDir() {
			return program
		}
	}
	return ""
}

// clusterIdentity says as whom the cluster runs, and that this user can reach the programs.
func clusterIdentity(binDir string) (identity, error) {
	if os.Geteuid() != 0 {
		return identity{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	id, err := unprivilegedUser("postgres", "nobody")
	if err != nil {
		return identity{}, err
	}
	if folder := blockedBy(binDir, id.uid, id.gid); folder != "" {
		return identity{}, fmt.Errorf("user %s, who runs PostgreSQL for root, cannot enter %s, where its programs are (%s): choose programs elsewhere, or: chmod o+x %s",
			id.name, folder, binDir, folder)
	}
	return id, nil
}

func unprivilegedUser(names ...string) (identity, error) {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if errors.Join(err1, err2) != nil || uid == 0 {
			continue
		}
		// NoSetGroups stays false: root's supplementary groups must not be handed on.
		credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return identity{credential: credential, uid: uid, gid: gid, name: name}, nil
	}
	return identity{}, fmt.Errorf("PostgreSQL refuses to run as root, and none of the users %s exists", strings.Join(names, ", "))
}

// blockedBy returns the first folder on the way to path, path included, that the user cannot enter, by its mode bits;
// "" when the way is free.
func blockedBy(path string, uid, gid int) string {
	folders := []string{path}
	for path != "/" {
		path = filepath.Dir(path)
		folders = append([]string{path}, folders...)
	}
	for _, folder := range folders {
		info, err := os.Stat(folder)
		if err != nil {
			return folder
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		bit := os.FileMode(0o001)
		switch {
		case int(stat.Uid) == uid:
			bit = 0o100
		case int(stat.Gid) == gid:
			bit = 0o010
		}
		if info.Mode()&bit == 0 {
			return folder
		}
	}
	return ""
}
