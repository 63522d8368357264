"""The parameter names that elastix 5.3 (itk-elastix 0.25) reads.

Source: elastix's log, which lists the parameters that a component looked up and did not find, collected over all
registrations, metrics, samplers, interpolators, pyramids, transforms and optimisers; for the parameters that elastix
looks up without a log entry, its manual (https://elastix.dev). Names from old manuals that 5.3 no longer reads
(FinalGridSpacing, UpsampleGridOption, UseMovingRigidityImage ...) are not listed, because elastix ignores them.
"""

_NAMES = """
    ASGDParameterEstimationMethod AutomaticParameterEstimation AutomaticScalesEstimation
    AutomaticTransformInitialization AutomaticTransformInitializationMethod BSplineInterpolationOrder
    BSplineTransformSplineOrder CalculateLinearityCondition CalculateOrthonormalityCondition
    CalculatePropernessCondition CenterOfRotationPoint CheckNumberOfSamples CompressResultImage
    ComputePyramidImagesPerResolution ConjugateGradientType DefaultPixelValue DilateRigidityImages
    DilationRadiusMultiplier ErodeMask ExactMetricEveryXIterations ExactMetricSampleGridSpacing
    FinalBSplineInterpolationOrder FinalGridSpacingInPhysicalUnits FinalGridSpacingInVoxels
    FiniteDifferenceDerivative FiniteDifferencePerturbation FixedImageBSplineInterpolationOrder FixedImageDimension
    FixedImagePyramid FixedImagePyramidRescaleSchedule FixedImagePyramidSchedule FixedImagePyramidSmoothingSchedule
    FixedInternalImagePixelType FixedKernelBSplineOrder FixedLimitRangeRatio ForegroundValue
    GenerateLineSearchIterations GradientMagnitudeTolerance GridSpacingSchedule HowToCombineTransforms
    ITKTransformOutputFileNameExtension ImagePyramidRescaleSchedule ImagePyramidSchedule
    ImagePyramidSmoothingSchedule ImagePyramidUseShrinkImageFilter ImageSampler Interpolator LBFGSUpdateAccuracy
    LineSearchGradientTolerance LineSearchStepTolerance LineSearchValueTolerance LinearityConditionWeight
    MaxBandCovSize MaximumDeviation MaximumNumberOfIterations MaximumNumberOfLineSearchIterations
    MaximumNumberOfSamplingAttempts MaximumStepLength MaximumStepLengthRatio Metric MinimumDeviation
    MinimumGradientMagnitude MinimumStepLength MovingImageDerivativeScales MovingImageDimension MovingImagePyramid
    MovingImagePyramidRescaleSchedule MovingImagePyramidSchedule MovingImagePyramidSmoothingSchedule
    MovingInternalImagePixelType MovingKernelBSplineOrder MovingLimitRangeRatio NewSamplesEveryIteration
    NoiseCompensation NoiseFactor NumberOfBandStructureSamples NumberOfFixedHistogramBins
    NumberOfGradientMeasurements NumberOfHistogramBins NumberOfJacobianMeasurements NumberOfMovingHistogramBins
    NumberOfParents NumberOfPerturbations NumberOfResolutions NumberOfSamplesForCenteredTransformInitialization
    NumberOfSamplesForExactGradient NumberOfSpatialSamples Optimizer OrthonormalityConditionWeight
    OutputTransformParameterFileFormat PassiveEdgeWidth PenaltyGridSpacingInVoxels PopulationSize
    PositionToleranceMax PositionToleranceMin PropernessConditionWeight RecombinationWeightsPreset Registration
    RelaxationFactor RequiredRatioOfValidSamples ResampleInterpolator Resampler ResultImageFormat
    ResultImagePixelType SP_A SP_a SP_alpha SP_c SP_gamma SampleGridSpacing SampleRegionSize Scales
    SegmentedImageName ShowExactMetricValue ShowMetricValues SigmoidInitialTime SigmoidMax SigmoidMin SigmoidScale
    SigmoidScaleFactor StepLength StepTolerance StopIfWolfeNotSatisfied SubtractMean Transform UpdateBDPeriod
    UseAdaptiveStepSizes UseComplement UseConstantStep UseCovarianceMatrixAdaptation UseCyclicTransform
    UseDecayingSigma UseDirectionCosines UseFastAndLowMemoryVersion UseForegroundValue UseJacobianPreconditioning
    UseLinearityCondition UseMovingImageDerivativeScales UseMultiThreadingForMetrics UseNormalization
    UseOrthonormalityCondition UsePropernessCondition UseRandomSampleRegion UseRelativeWeights ValueTolerance
    WriteFinalTransformParameters WriteIterationInfo WritePyramidImagesAfterEachResolution WriteResultImage
    WriteResultImageAfterEachIteration WriteResultImageAfterEachResolution WriteTransformParametersEachIteration
    WriteTransformParametersEachResolution
"""

KNOWN = frozenset(_NAMES.split())
