// Package builds the program for AWS Lambda and packs it: a zip with one file, bootstrap.
//
//	go run ./deploy/lambda/package -arch arm64 -out bin/lambda/hotswap-arm64.zip
//
// The same sources and the same Go make the same bytes, in whatever folder and at whatever
// time. It prints the zip's SHA-256.
package main

import (
	"archive/zip"
	"compress/flate"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func main() {
	log.SetFlags(0)
	arch := flag.String("arch", "arm64", "amd64 or arm64")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	if *out == "" || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(2)
	}
	sum, err := run(*arch, *out)
	if err != nil {
		log.Fatal("package: ", err)
	}
	fmt.Printf("%s  %s\n", sum, *out)
}

// run builds for an architecture, and writes the zip only when all of it is there.
func run(arch, out string) (sum string, err error) {
	dir, err := os.MkdirTemp("", "hotswap-lambda-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "bootstrap")
	if err := build(arch, binary); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", err
	}
	f, err := os.Create(out + ".part")
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if err := pack(io.MultiWriter(f, h), binary); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), os.Rename(f.Name(), out)
}

// build compiles cmd/hotswap of the module in the working folder. Nothing of the machine
// gets into the program: no path, no name of a commit, no option of whoever builds.
func build(arch, to string) error {
	c := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", to, "./cmd/hotswap")
	c.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	return c.Run()
}

// pack writes a zip of one program.
func pack(w io.Writer, program string) error {
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(0o755)
	entry, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	if _, err := io.Copy(entry, f); err != nil {
		return err
	}
	return z.Close()
}
