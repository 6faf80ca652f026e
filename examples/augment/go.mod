module github.com/seed-436d2970/pixpro/examples/augment

go 1.26.0

require github.com/seed-436d2970/pixpro v0.0.0

require (
	github.com/ebitengine/purego v0.11.3 // indirect
	golang.org/x/image v0.47.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/seed-436d2970/pixpro => ../..
