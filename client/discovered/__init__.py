"""What a discovery service found (rows of ObsCore, or of SIA 2), as datasets and dimension records."""
