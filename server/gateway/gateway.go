// Package gateway puts the check of certificate-bound tokens in front of an API that
// knows nothing of it. One decision, the [Decider]'s, has several fronts: the reverse
// proxy of this package, and the fronts below it that answer a proxy's question about a
// request.
//
// A request is judged by the route that its host and path belong to: the token and the
// certificate by package resourceserver, then what the route adds. What goes upstream
// about the caller stands in header fields that no client can set (see [Identity]).
package gateway
