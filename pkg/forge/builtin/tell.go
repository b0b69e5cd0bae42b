package builtin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hotswap.dev/hotswap/pkg/forge"
)

const hookTime = 5 * time.Second // of one delivery

// hookClient follows no redirects: a webhook goes where it was set up for.
func hookClient() *http.Client {
	return &http.Client{Timeout: hookTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Hook implements [forge.Forge]. Hooks live as long as the process, whose secrets they
// are: whoever starts it sets them up.
func (f *Forge) Hook(ctx context.Context, repo string, hook forge.Hook) error {
	at, err := url.Parse(hook.URL)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" || hook.Secret.IsZero() {
		return fmt.Errorf("%w: a webhook has a URL and a secret", forge.ErrInvalid)
	}
	_, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hooks[p.full] == nil {
		f.hooks[p.full] = map[string]forge.Hook{}
	}
	f.hooks[p.full][hook.URL] = hook
	return nil
}

// tell sends an event about a pull request to the repository's webhooks. It is a hint:
// what is lost is found by the next reconcile.
func (f *Forge) tell(ctx context.Context, repo string, number int64, event string) {
	body, err := forge.NewPullBody(forge.Wake{RepositoryID: strconv.FormatInt(RepositoryID(repo), 10), Repository: repo, Number: number})
	if err == nil {
		err = f.deliver(ctx, repo, event, body)
	}
	if err != nil {
		f.options.Log.WarnContext(ctx, "webhook not delivered", "repository", repo, "number", number, "event", event, "err", err)
	}
}

func (f *Forge) deliver(ctx context.Context, repo, event string, body []byte) error {
	f.mu.Lock()
	hooks := make([]forge.Hook, 0, len(f.hooks[repo]))
	for _, h := range f.hooks[repo] {
		hooks = append(hooks, h)
	}
	f.mu.Unlock()
	// What was done is told, whatever becomes of whoever did it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookTime)
	defer cancel()
	var failed error
	for _, h := range hooks {
		if err := f.send(ctx, h, event, body); err != nil {
			failed = err
		}
	}
	return failed
}

func (f *Forge) send(ctx context.Context, h forge.Hook, event string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if err := forge.SignDelivery(r.Header, event, body, h.Secret); err != nil {
		return err
	}
	answer, err := f.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("it was answered with %d", answer.StatusCode)
	}
	return nil
}
