package platform

import (
	"time"

	"github.com/openfaas/faas-provider/types"
)

// SetRetries makes the worker try a call this often, with this wait before each.
func (a *Async) SetRetries(attempts int, wait time.Duration) {
	a.attempts, a.wait = attempts, func(int) time.Duration { return wait }
}

// What parses input of the outside.
var (
	SplitFunctionPath = splitFunctionPath
	Unescaped         = unescaped
)

// CheckDeployment returns the name and the bounds of a deployment, or what is wrong with it.
func (f *Functions) CheckDeployment(s types.FunctionDeployment) (name string, most int, idle, write time.Duration, err error) {
	d, err := f.deployment(s)
	return d.spec.Service, d.most, d.idle, d.write, err
}

// ForgetImages deletes the programs that nothing stands for, as it would at a time.
func (f *Functions) ForgetImages(now time.Time) error { return f.forgetImages(now) }

// CheckImage returns the file of an image below images/, or what is wrong with its name.
func CheckImage(name string) (string, error) { return imageFile(name) }
