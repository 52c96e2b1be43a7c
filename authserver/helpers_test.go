package authserver_test

import (
	"io"
	"net"
	"time"
)

type nopCloser struct{ io.Reader }

func (nopCloser) Close() error { return nil }

// A pipeConn is a connection that only has an address.
type pipeConn struct{}

func (pipeConn) Read([]byte) (int, error)         { return 0, io.EOF }
func (pipeConn) Write(p []byte) (int, error)      { return len(p), nil }
func (pipeConn) Close() error                     { return nil }
func (pipeConn) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }
func (pipeConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (pipeConn) SetDeadline(time.Time) error      { return nil }
func (pipeConn) SetReadDeadline(time.Time) error  { return nil }
func (pipeConn) SetWriteDeadline(time.Time) error { return nil }
