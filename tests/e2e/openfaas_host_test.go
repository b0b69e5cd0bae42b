package e2e

// openfaas is the real gateway of OpenFaaS, see tests/openfaas.
type openfaas struct{}

func (*openfaas) start(*world) {}
