module github.com/certbound/certbound/bench

go 1.26.0

require (
	github.com/certbound/certbound v0.0.0
	github.com/go-jose/go-jose/v4 v4.1.8
)

replace github.com/certbound/certbound => ../
