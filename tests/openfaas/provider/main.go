// Provider is the embedded platform's provider behind a gateway of OpenFaaS: it runs
// functions as processes of this machine.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
)

func main() {
	dir := flag.String("dir", "", "folder of the functions")
	listen := flag.String("listen", "127.0.0.1:8091", "address")
	passwordFile := flag.String("password-file", "", "file with the password of user admin")
	images := flag.String("images", "", "programs to register, NAME=FILE,…")
	flag.Parse()
	if err := run(*dir, *listen, *passwordFile, *images); err != nil {
		log.Fatal(err)
	}
}

func run(dir, listen, passwordFile, images string) error {
	password, err := os.ReadFile(passwordFile)
	if err != nil {
		return err
	}
	f, err := platform.OpenFunctions(platform.FunctionsOptions{Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH")}, Log: func(name, line string) { log.Print(name, ": ", line) }})
	if err != nil {
		return err
	}
	for image := range strings.SplitSeq(images, ",") {
		name, file, _ := strings.Cut(image, "=")
		if err := f.AddImage(name, file); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	// The gateway executes a call again whose answer takes longer than it may be written.
	server := &http.Server{
		Addr: listen, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 70 * time.Second, WriteTimeout: 75 * time.Second,
		Handler: platform.Provider(f, platform.Access{User: "admin", Password: secret.New([]byte(strings.TrimSpace(string(password))))}),
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = f.Run(ctx) }()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	f.Close()
	return nil
}
