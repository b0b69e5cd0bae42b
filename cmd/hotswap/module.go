package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/node"
	"hotswap.dev/hotswap/pkg/target"
)

func moduleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "module",
		Short: "Pack and sign modules",
		Example: "  # once: a key pair; the private half stays with whoever releases\n" +
			"  hotswap module keygen release\n\n" +
			"  # each version: the archive, and what an intent says about it\n" +
			"  hotswap module pack ./checkout --name checkout --out checkout-1.5.0.tar.gz",
	}
	c.AddCommand(keygenCommand(), packCommand(), signCommand())
	return c
}

func keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen NAME",
		Short: "Make a key pair: NAME.key (mode 0600) and NAME.pub",
		Long: "Make an Ed25519 key pair, in PEM as openssl writes it. NAME.key signs modules: keep it secret.\n" +
			"NAME.pub goes into the file that nodes are given by --trusted-keys. Files that exist are never replaced.",
		Example: "  # release.key and release.pub\n  hotswap module keygen release\n\n" +
			"  # in another folder\n  hotswap module keygen /etc/hotswap/release",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := makeKeys(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s.key\n%s.pub\n", args[0], args[0])
			return nil
		},
	}
}

func makeKeys(name string) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	secret, err := target.MarshalPrivateKey(private)
	if err != nil {
		return err
	}
	open, err := target.MarshalPublicKey(public)
	if err != nil {
		return err
	}
	if err := writeNew(name+".key", secret, 0o600); err != nil {
		return err
	}
	return writeNew(name+".pub", open, 0o644)
}

// writeNew never replaces a file: a lost key cannot be had again.
func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s exists and is not replaced", path)
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.Write(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// A packReport is what `hotswap module pack -o json` prints.
type packReport struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

func packCommand() *cobra.Command {
	var name, out, output string
	c := &cobra.Command{
		Use:   "pack SOURCE --name NAME --out FILE",
		Short: "Make a module's archive from an executable or a folder",
		Long: "Make a module's archive, a gzipped tar, from an executable or from a folder that holds an executable\n" +
			"NAME or bin/NAME. The same content gives the same bytes on every machine. Prints digest and size as\n" +
			"an intent wants them.",
		Example: "  # an executable\n  hotswap module pack ./checkout --name checkout --out checkout-1.5.0.tar.gz\n\n" +
			"  # a folder, for another program\n  hotswap module pack ./dist --name checkout --out checkout-1.5.0.tar.gz -o json",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case name == "" || out == "":
				return usagef("--name and --out are needed; see %s --help", c.CommandPath())
			case output != "yaml" && output != "json":
				return usagef("--output is yaml or json, not %q", output)
			}
			report, err := packModule(args[0], name, out)
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(c.OutOrStdout()).Encode(report)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "digest: %s\nsize: %d\n", report.Digest, report.Size)
			return err
		},
	}
	c.Flags().StringVar(&name, "name", "", "name of the module")
	c.Flags().StringVar(&out, "out", "", "the archive to write")
	c.Flags().StringVarP(&output, "output", "o", "yaml", "yaml or json")
	return c
}

// packModule writes the archive beside out first, so that out is whole or as it was.
func packModule(source, name, out string) (packReport, error) {
	f, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+".*")
	if err != nil {
		return packReport{}, fmt.Errorf("pack: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	packed, err := node.Pack(f, source, name)
	if errors.Is(err, node.ErrPack) {
		return packReport{}, exitError{exitInvalid, err}
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), out)
	}
	if err != nil {
		return packReport{}, fmt.Errorf("pack: %w", err)
	}
	return packReport{Path: out, Digest: packed.Digest, Size: packed.Size}, nil
}

func signCommand() *cobra.Command {
	var key string
	var m target.Module
	c := &cobra.Command{
		Use:   "sign --key FILE --name NAME --version VERSION --digest DIGEST",
		Short: "Sign a module: its name, version and digest",
		Long: "Print the signature of a module's name, version and digest, as an intent wants it. Nodes unpack a module\n" +
			"only if it was signed so by a key that they trust.",
		Example: "  # with the digest that pack printed\n" +
			"  hotswap module sign --key release.key --name checkout --version 1.5.0 --digest sha256:0b31…\n\n" +
			"  # with a key that lies elsewhere; nodes are given its public half by --trusted-keys\n" +
			"  hotswap module sign --key /etc/hotswap/release.key --name checkout --version 1.5.0 --digest sha256:0b31…",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if key == "" || m.Name == "" || m.Version == "" || m.Digest == "" {
				return usagef("--key, --name, --version and --digest are needed; see %s --help", c.CommandPath())
			}
			hex, ok := strings.CutPrefix(m.Digest, "sha256:")
			if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
				return usagef("--digest is not sha256: and 64 hex digits")
			}
			signature, err := signModule(key, m)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "signature: %s\n", signature)
			return err
		},
	}
	c.Flags().StringVar(&key, "key", "", "file with the private key")
	c.Flags().StringVar(&m.Name, "name", "", "name of the module")
	c.Flags().StringVar(&m.Version, "version", "", "version of the module")
	c.Flags().StringVar(&m.Digest, "digest", "", "digest of the archive")
	return c
}

func signModule(keyFile string, m target.Module) (string, error) {
	f, err := os.Open(keyFile)
	if err != nil {
		return "", usagef("--key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", exitError{exitAuth, fmt.Errorf("%s can be read by others (mode %04o); chmod 0600 it", keyFile, info.Mode().Perm())}
	}
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	key, err := target.ParsePrivateKey(text)
	if err != nil {
		return "", usagef("--key %s: %w", keyFile, err)
	}
	return target.SignModule(m, key)
}
