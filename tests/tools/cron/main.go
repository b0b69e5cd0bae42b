// Cron calls functions of OpenFaaS by the schedule in their annotations, by way of the
// connector SDK, as OpenFaaS's own cron connector does.
package main

import (
	"context"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/openfaas/connector-sdk/types"
	"github.com/openfaas/go-sdk"
	"github.com/robfig/cron/v3"
)

func main() {
	password, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	gateway := os.Args[1]
	auth := &sdk.BasicAuth{Username: "admin", Password: strings.TrimSpace(string(password))}
	at, err := url.Parse(gateway)
	if err != nil {
		log.Fatal(err)
	}
	client := sdk.NewClient(at, auth, &http.Client{Timeout: 10 * time.Second})
	invoker := types.NewInvoker(gateway+"/async-function", &http.Client{Timeout: 10 * time.Second}, "text/plain", false, false, "cron-connector")
	go func() {
		for r := range invoker.Responses {
			log.Printf("invoked %s: %d %v", r.Function, r.Status, r.Error)
		}
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	jobs := cron.New()
	jobs.Start()
	known := map[string]bool{}
	for ctx.Err() == nil {
		all, err := client.GetFunctions(ctx, "")
		if err != nil {
			log.Print(err)
		}
		for _, f := range all {
			if f.Annotations == nil || (*f.Annotations)["topic"] != "cron-function" || known[f.Name] {
				continue
			}
			known[f.Name] = true
			topics := types.NewTopicMap()
			topics.Sync(&map[string][]string{f.Name: {f.Name}})
			_, err := jobs.AddFunc((*f.Annotations)["schedule"], func() {
				body := []byte{}
				invoker.InvokeWithContext(ctx, &topics, f.Name, &body, http.Header{})
			})
			log.Printf("%s is called by %s: %v", f.Name, (*f.Annotations)["schedule"], err)
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
	}
}
