// Package ext stands for the extension points of Traefik's configuration. Traefik has it in
// a folder with a go.mod of its own, which is not in the module that the Go module proxy
// serves. Nothing extends the configuration here, so the types are empty.
package ext

// HTTP extends the HTTP configuration.
type HTTP struct{}

// Router extends a router.
type Router struct{}
