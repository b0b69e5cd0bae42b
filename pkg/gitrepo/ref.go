package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// updateRef moves a branch to a commit by git itself: its lock files are what a
// push beside this one respects, and go-git's are others. A lock that somebody
// holds is waited for; one that a killed push left behind is an error that names it.
func (r *Repository) updateRef(ctx context.Context, ref plumbing.ReferenceName, sha string, o CommitOptions) error {
	old := o.Expect
	if old == "" {
		old = plumbing.ZeroHash.String()
	}
	limited, cancel := context.WithTimeout(ctx, refTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, "git", "--git-dir="+r.path, "-c", "core.hooksPath="+os.DevNull, "-c", "core.filesRefLockTimeout=5000",
		"update-ref", "--no-deref", ref.String(), sha, old)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	switch tip, tipErr := r.tipOrNone(ctx, o.Branch); {
	case tipErr == nil && tip == sha: // git died after it moved the branch
		return nil
	case tipErr == nil && tip != o.Expect:
		return ErrMoved
	}
	return fmt.Errorf("update-ref: %w: %.300s", errors.Join(err, context.Cause(limited)), out)
}
