module github.com/certbound/certbound/server

go 1.26.0

require github.com/certbound/certbound v0.0.0

replace github.com/certbound/certbound => ../
