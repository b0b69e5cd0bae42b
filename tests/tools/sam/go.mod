module hotswap.dev/hotswap/tests/tools/sam

go 1.26.0

require (
	github.com/awslabs/goformation/v7 v7.14.9
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
)

require golang.org/x/text v0.14.0 // indirect
