package gitea

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/rest"
)

// An entry is a type of this package that can say what is wrong with it.
type entry[T any] interface {
	*T
	problem() string
}

// list is what is read page by page.
type list struct {
	path   string
	query  url.Values
	within string // member of the answer that holds the entries; empty: the answer itself
	hides  bool   // the server counts entries that it does not show us
}

// errChanged: a list grew or shrank between its pages.
var errChanged = errors.New("a list changed while it was read")

// all reads all pages: as many entries as the server's X-Total-Count says there are.
// The server may give fewer on a page than we ask for. When it hides some, pages are
// read until the shortest that it could have would have reached the end.
func all[T any, E entry[T]](ctx context.Context, g *Gitea, l list) ([]T, error) {
	for range rereads {
		items, err := pages[T, E](ctx, g, l)
		if !errors.Is(err, errChanged) {
			return items, err
		}
	}
	return nil, fmt.Errorf("%w: %s", forge.ErrMoving, l.path)
}

func pages[T any, E entry[T]](ctx context.Context, g *Gitea, l list) ([]T, error) {
	var items []T
	longest := 1
	for number, want := 1, -1; ; number++ {
		page, total, err := readPage[T, E](ctx, g, l, number)
		switch {
		case err != nil:
			return nil, err
		case want >= 0 && total != want:
			return nil, errChanged
		}
		want = total
		items, longest = append(items, page...), max(longest, len(page))
		switch {
		case len(items) == total:
			return items, nil
		case len(items) > total, len(page) == 0 && !l.hides:
			return nil, errChanged
		case l.hides && number*longest >= total && number > 1:
			return items, nil
		case number == maxPages:
			return nil, fmt.Errorf("%w: %d entries of %s", forge.ErrTooMuch, total, l.path)
		}
	}
}

// readPage returns one page, and how many entries there are on all.
func readPage[T any, E entry[T]](ctx context.Context, g *Gitea, l list, number int) ([]T, int, error) {
	query := url.Values{"page": {strconv.Itoa(number)}, "limit": {strconv.Itoa(pageSize)}}
	maps.Copy(query, l.query)
	var body json.RawMessage
	header, err := g.rest.Do(ctx, rest.Call{Path: l.path, Query: query, Into: &body})
	if err != nil {
		return nil, 0, err
	}
	items, err := entries[T, E](body, l)
	if err != nil {
		return nil, 0, err
	}
	total, err := count(header)
	return items, total, err
}

// unpaged reads a list that Gitea gives whole when no page is named.
func unpaged[T any, E entry[T]](ctx context.Context, g *Gitea, path string) ([]T, error) {
	var body json.RawMessage
	header, err := g.rest.Do(ctx, rest.Call{Path: path, Into: &body})
	if err != nil {
		return nil, err
	}
	items, err := entries[T, E](body, list{path: path})
	if err != nil {
		return nil, err
	}
	if total, err := count(header); err != nil || total != len(items) {
		return nil, fmt.Errorf("%w: %d entries of %d of %s", forge.ErrMalformed, len(items), total, path)
	}
	return items, nil
}

func entries[T any, E entry[T]](body json.RawMessage, l list) ([]T, error) {
	if l.within != "" {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", forge.ErrMalformed, l.path, err)
		}
		body = members[l.within]
	}
	var items []*T
	if err := json.Unmarshal(body, &items); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", forge.ErrMalformed, l.path, err)
	}
	out := make([]T, 0, len(items))
	for _, item := range items {
		problem := "null"
		if item != nil {
			problem = E(item).problem()
		}
		if problem != "" {
			return nil, fmt.Errorf("%w: %s: %s", forge.ErrMalformed, l.path, problem)
		}
		out = append(out, *item)
	}
	return out, nil
}

func count(header http.Header) (int, error) {
	total, err := strconv.Atoi(header.Get("X-Total-Count"))
	if err != nil || total < 0 {
		return 0, fmt.Errorf("%w: a list that does not say how long it is", forge.ErrMalformed)
	}
	return total, nil
}
