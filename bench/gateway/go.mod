// A module of its own, since the client of ext_authz needs gRPC and Envoy's types.
module github.com/certbound/certbound/bench/gateway

go 1.26.0

require (
	github.com/certbound/certbound v0.0.0
	github.com/certbound/certbound/bench v0.0.0
	github.com/go-jose/go-jose/v4 v4.1.8
)

require golang.org/x/crypto v0.58.0 // indirect

replace (
	github.com/certbound/certbound => ../../
	github.com/certbound/certbound/bench => ../
)
