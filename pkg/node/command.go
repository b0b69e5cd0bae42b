package node

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"hotswap.dev/hotswap/pkg/target"
)

// findCommand returns the executable of the module's name, at the top of the
// tree or in its folder bin.
func findCommand(tree, name string) (string, *failure) {
	for _, candidate := range []string{name, filepath.Join("bin", name)} {
		path := filepath.Join(tree, candidate)
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", failed(target.CommandMissing, "the archive holds no executable %s or bin/%s", name, name)
}

// command says how the module is started: in the folder of its archive, with
// nothing of the agent's own environment, with a folder for temporary files that
// is removed by the function that command returns.
func (i *instance) command(path, tree, address string) (command, func(), error) {
	marker := i.m.nextMarker()
	scratch := filepath.Join(i.m.scratch, marker)
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return command{}, nil, fmt.Errorf("make temporary folder: %w", err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return command{}, nil, err
	}
	env := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": scratch, "TMPDIR": scratch}
	for name, value := range i.spec.Config.Env {
		env[name] = value
	}
	env["PORT"], env["HOTSWAP_ADDRESS"] = port, address
	credentials := ""
	if len(i.spec.Config.Secrets) > 0 {
		credentials = filepath.Join(scratch, "credentials")
		if err := os.Mkdir(credentials, 0o700); err != nil {
			return command{}, nil, fmt.Errorf("make folder of secrets: %w", err)
		}
		env["CREDENTIALS_DIRECTORY"] = credentials
	}
	list := make([]string, 0, len(env)+1)
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	c := command{
		path: path, folder: tree, args: i.spec.Config.Args, env: list,
		output: i.log, marker: marker, run: i.m.run, credentials: credentials,
	}
	return c, func() {
		i.m.endLeftBehind(marker)
		_ = os.RemoveAll(scratch)
	}, nil
}
