// Package api is the function that people and their programs call; pkg/api is what
// it serves.
package api

import (
	"net/http"

	"hotswap.dev/hotswap/pkg/api"
)

// New returns the function's handler: every operation below /v1.
func New(d api.Deps) http.Handler { return api.New(d) }
