module hotswap.dev/hotswap/tests/tools/cron

go 1.26.0

require (
	github.com/openfaas/connector-sdk v0.8.0
	github.com/openfaas/go-sdk v0.2.22
	github.com/robfig/cron/v3 v3.0.1
)

require github.com/openfaas/faas-provider v0.25.8 // indirect
