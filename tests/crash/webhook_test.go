package crash_test

import (
	"bytes"
	"context"
	"net/http"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/secret"
)

// hookKeys are what deliveries are signed with.
func hookKeys() forge.Keys { return forge.Keys{Current: secret.New([]byte("the secret of this hook"))} }

// pushRequest is the delivery of a push as the embedded forge sends it. The same
// id is the same delivery, sent again.
func pushRequest(ctx context.Context, server, id string) (*http.Request, error) {
	body, err := forge.NewPushBody(1, forge.Push{
		Repository: tenant + "/" + repository, Ref: "refs/heads/main", After: "0123456789abcdef0123456789abcdef01234567",
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/"+tenant+"/"+repository, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if err := forge.SignDelivery(req.Header, "push", body, hookKeys().Current); err != nil {
		return nil, err
	}
	req.Header.Set("X-Gitea-Delivery", id)
	return req, nil
}
