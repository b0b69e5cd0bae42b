// Package record is what HotSwap writes to Git about each slot, and how an edit of
// it by a person is understood. It is pure.
//
// The records lie on a branch of their own, one file for each slot. They say what
// the slot runs and since when, so that Git alone tells the state of a fleet, and
// so that reverting a commit there is a way to go back.
package record

import (
	"errors"
	"regexp"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
)

// Branch is where the records are, Folder the folder that they are in.
const (
	Branch = "hotswap/releases"
	Folder = "releases"
)

// PromoteFolder begins the names of the branches of promotion pull requests.
const PromoteFolder = "hotswap/promote/"

// MaxBytes bounds the file of a record.
const MaxBytes = 256 << 10

// ErrInvalid reports a file that is no record.
var ErrInvalid = errors.New("not a record")

// A Record is what is said about one slot. Release, Module and Config are what
// runs; Promotion is the last one that ended there, however it did.
type Record struct {
	Environment   string        `json:"environment"`
	Deployment    string        `json:"deployment"`
	Tenant        string        `json:"tenant"`
	Release       string        `json:"release,omitempty"` // id; empty: nothing ever ran
	Generation    int64         `json:"generation,omitempty"`
	Commit        string        `json:"commit,omitempty"` // of the intent
	ReleaseDigest string        `json:"releaseDigest,omitempty"`
	PlanDigest    string        `json:"planDigest,omitempty"`
	Module        intent.Module `json:"module,omitzero"` // zero: nothing runs
	Config        intent.Config `json:"config,omitzero"`
	Promotion     string        `json:"promotion,omitempty"`
	PromotionKind string        `json:"promotionKind,omitempty"` // promote, restore or remove
	State         string        `json:"state,omitempty"`         // that it ended in
	At            time.Time     `json:"at,omitzero"`
	Holds         []Hold        `json:"holds,omitempty"`
}

// A Hold bars an artifact from the slot.
type Hold struct {
	Artifact string    `json:"artifact"` // digest
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	By       string    `json:"by"`
}

// document is the file: the record under the head that every document has.
type document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       Record `json:"spec"`
}

const kind = "Record"

// header stands above every record.
const header = `# Written by HotSwap. What stands here is what runs.
# Going back: revert the commit, or set release, releaseDigest and planDigest to
# those of a release that ran here before. Any other edit is undone.
`

// Path is where a record's file lies: releases/ENVIRONMENT/DEPLOYMENT.yaml.
func (r Record) Path() string { return Path(r.Environment, r.Deployment) }

// Path is where the record of a slot lies.
func Path(environment, deployment string) string {
	return Folder + "/" + environment + "/" + deployment + ".yaml"
}

var pathForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^releases/([a-z0-9][a-z0-9-]{0,62})/([a-z0-9][a-z0-9-]{0,62})\.yaml$`)
})

// Slot is the inverse of [Path].
func Slot(path string) (environment, deployment string, ok bool) {
	m := pathForm().FindStringSubmatch(path)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}
