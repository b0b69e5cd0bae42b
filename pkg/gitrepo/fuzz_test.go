package gitrepo

import (
	"context"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/memory"
)

// FuzzTree gives the reader any bytes as a commit's folder.
func FuzzTree(f *testing.F) {
	blob := strings.Repeat("\x01", 20)
	f.Add([]byte("100644 a.yaml\x00" + blob))
	f.Add([]byte("120000 a.yaml\x00" + blob + "100644 ../../x.yaml\x00" + blob))
	f.Add([]byte("100644 a.yaml\x00" + blob + "100644 a.yaml\x00" + blob))
	f.Add([]byte("40000 a.yaml\x00"))
	f.Fuzz(func(t *testing.T, listing []byte) {
		s := memory.NewStorage()
		put := func(kind plumbing.ObjectType, content []byte) plumbing.Hash {
			o := s.NewEncodedObject()
			o.SetType(kind)
			w, _ := o.Writer()
			_, _ = w.Write(content)
			_ = w.Close()
			h, err := s.SetEncodedObject(o)
			if err != nil {
				t.Skip()
			}
			return h
		}
		content := put(plumbing.BlobObject, []byte("a: 1\n"))
		listing = []byte(strings.ReplaceAll(string(listing), blob, string(content[:])))
		folder := put(plumbing.TreeObject, listing)
		root := put(plumbing.TreeObject, append([]byte("40000 deployments\x00"), folder[:]...))
		commit := put(plumbing.CommitObject, []byte("tree "+root.String()+"\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n"))
		changed, err := diff(context.Background(), s, "", commit.String(), "deployments", Limits{})
		for _, c := range changed {
			if !utf8.ValidString(c.Path) || strings.ContainsAny(c.Path, "\n\x1b\x00") || c.Before != nil || (c.After == nil) == (c.Odd == "") {
				t.Errorf("changed %+v", c)
			}
		}
		if err == nil && !slices.IsSortedFunc(changed, func(a, b Changed) int { return strings.Compare(a.Path, b.Path) }) {
			t.Errorf("order %+v", changed)
		}
		got, err := readSnapshot(context.Background(), s, commit, []string{"deployments"}, Limits{})
		if err != nil {
			return
		}
		for path := range got.Files {
			name, ok := strings.CutPrefix(path, "deployments/")
			if !ok || !fileName().MatchString(name) || strings.Contains(name, "/") {
				t.Errorf("file %q", path)
			}
		}
		for _, skipped := range got.Skipped {
			if !utf8.ValidString(skipped.Path) || strings.ContainsAny(skipped.Path, "\n\x1b\x00") {
				t.Errorf("skipped %q", skipped.Path)
			}
		}
	})
}

// FuzzCommit gives the reader any bytes as a commit.
func FuzzCommit(f *testing.F) {
	f.Add([]byte("tree 1\nparent 2\nauthor a <a> 1 +0000\n\n\x1b[31m"))
	f.Add([]byte("author \xff <\x00> 99999999999999999999 +9999\n\n\n\nx"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := memory.NewStorage()
		o := s.NewEncodedObject()
		o.SetType(plumbing.CommitObject)
		w, _ := o.Writer()
		_, _ = w.Write(raw)
		_ = w.Close()
		h, err := s.SetEncodedObject(o)
		if err != nil {
			t.Skip()
		}
		c, err := readCommit(s, h)
		if err != nil {
			return
		}
		d := describe(c)
		for _, text := range []string{d.Subject, d.Author.Name, d.Author.Email} {
			if !utf8.ValidString(text) || len(text) > 200 || strings.ContainsAny(text, "\n\x1b\x00") {
				t.Errorf("text %q", text)
			}
		}
	})
}

// FuzzRemote checks that no accepted URL carries credentials or leaves the three schemes.
func FuzzRemote(f *testing.F) {
	for _, seed := range []string{"https://example.test/x.git", "http://127.0.0.1:1/x", "file:///x", "https://u:p@h/x", "ext::x", "//x", "https://[::1]:1/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		u, err := parseRemote(Remote{URL: given})
		if err != nil {
			return
		}
		if u.User != nil || strings.HasPrefix(u.Host, "-") || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file" {
			t.Errorf("accepted %q", given)
		}
	})
}
